"""The optimizer that a configuration names."""

from __future__ import annotations

from xlatrain.config.schema import AdamWConfig, LAMBConfig, LARSConfig, OptimizerConfig, RMSpropTFConfig, SGDConfig
from xlatrain.config.targets import find_part
from xlatrain.optim.adamw import AdamW
from xlatrain.optim.lamb import LAMB
from xlatrain.optim.lars import LARS
from xlatrain.optim.optimizer import Optimizer
from xlatrain.optim.rmsprop_tf import RMSpropTF
from xlatrain.optim.sgd import SGD

_OPTIMIZERS = {SGDConfig: SGD, RMSpropTFConfig: RMSpropTF, AdamWConfig: AdamW, LAMBConfig: LAMB, LARSConfig: LARS}


def build_optimizer(config: OptimizerConfig) -> Optimizer:
    """An optimizer with the options of its configuration. Raises what one's own raises."""
    if config._target_:
        return find_part(config._target_)(config, **config.kwargs)
    return _OPTIMIZERS[type(config)](config)


def describe_optimizer(config: OptimizerConfig) -> str | None:
    """What an optimizer does that its name does not say; None if nothing."""
    if isinstance(config, LARSConfig) and config.loss_l2:
        return f"decayed twice: an L2 of {config.loss_l2:g} in the loss, on all but norms, comes first"
    return None
