"""Weights files of models that nobody trained, with all that a run's know of themselves: made in milliseconds."""

from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import nn

from xlatrain.config.compose import compose_config
from xlatrain.models.create import build_model, timm_arguments
from xlatrain.preflight.facts import describe_weights
from xlatrain.preflight.weights_file import FACTS_KEY

DIGITS = tuple(map(str, range(10)))


def write_weights(path: Path, *overrides: str, seed: int = 0, names: tuple[str, ...] = DIGITS) -> str:
    """Write a file for the model that overrides name, which answers to images, not alike to all; returns its path."""
    config, _ = compose_config(overrides)
    model = build_model(config.model, len(names), config.data.image_size, seed)
    generator = torch.Generator().manual_seed(seed)
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.running_mean.normal_(0, 0.1, generator=generator)
            module.running_var.uniform_(0.5, 1.5, generator=generator)
    last = [tensor for tensor in model.parameters() if tensor.ndim == 2][-1]
    with torch.no_grad():
        last.normal_(0, 1, generator=generator)
    arguments = timm_arguments(config.model, len(names), config.data.image_size)
    facts = describe_weights(config, len(names), names, arguments, {"xlatrain": "test"})
    save_file({n: t.clone().contiguous() for n, t in model.state_dict().items()}, path, {FACTS_KEY: facts.to_json()})
    return str(path)
