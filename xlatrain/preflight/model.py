"""Whether a run's model can be built, started and fed: what it says itself before any device is touched."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from xlatrain.config.choices import CONFIG_DIR
from xlatrain.config.schema import Config
from xlatrain.errors import Fault

if TYPE_CHECKING:
    from torch import nn

# What a command says of its model, or of the images that it is given: of the rest no model can be wrong.
_OF_MODEL = (
    *("model.name", "model._target_", "model.kwargs", "model.pool", "model.drop_rate", "model.drop_path_rate"),
    *("model.zero_init_residual", "model.pretrained", "model.fold", "data.image_size", "data.num_classes"),
    *("data._target_", "augment.sizes", CONFIG_DIR.rstrip("=")),
)
_GIB = 2**30
# Bytes that a step holds of each pixel at the very least: three channels as uint8 and, normalised, as float32.
_PIXEL_BYTES = 3 * (1 + 4)


def is_in_question(overrides: Sequence[str]) -> bool:
    """Whether a command says something of which its model could be wrong. Choices of conf/ are sound."""
    keys = [text.lstrip("+~").partition("=")[0] for text in overrides]
    return any(key == name or key.startswith(f"{name}.") for key in keys for name in _OF_MODEL)


def build_blank(config: Config, num_classes: int) -> tuple[nn.Module | None, list[Fault]]:
    """The model without memory or numbers; whether it can be built, started from the weights asked for and given images
    of this size. num_classes: of the data."""
    if config.data.image_size < 1:
        return None, []
    if fault := _image_memory(config):
        return None, [fault]
    if config.model._target_:
        return _build_own(config, num_classes)
    from xlatrain.models.create import check_model, is_known, nearest_names  # with timm: a second and a half

    if not is_known(config.model.name):
        near = nearest_names(config.model.name)
        cure = f"did you mean {', '.join(near)}?" if near else "see timm.list_models()"
        return None, [Fault("model.name", f"timm has no model {config.model.name!r}", cure)]
    if fault := _initial_weights(config):
        return None, [fault]
    try:
        # Without the weights first: what is wrong then is not theirs.
        plain = {k: v for k, v in config.model.kwargs.items() if k != "checkpoint_path"}
        model = check_model(replace(config.model, kwargs=plain), num_classes, config.data.image_size)
    except ValueError as error:
        cure = "correct model.name, model.kwargs, or data.image_size"
        return None, [Fault("model", f"{config.model.name} cannot be used: {error}", cure)]
    if path := config.model.kwargs.get("checkpoint_path"):
        try:
            check_model(config.model, num_classes, config.data.image_size)
        except ValueError as error:
            cure = f"give weights of {config.model.name} with {num_classes} classes, or leave it out"
            return None, [Fault("model.kwargs.checkpoint_path", f"{path} cannot be used: {error}", cure)]
    return model, []


def _build_own(config: Config, num_classes: int) -> tuple[nn.Module | None, list[Fault]]:
    from xlatrain.models.create import check_model

    try:
        return check_model(config.model, num_classes, config.data.image_size), []
    except ValueError as error:
        cure = f"name a class or function that takes num_classes={num_classes} and model.kwargs, and gives an nn.Module"
        return None, [Fault("model._target_", f"{config.model._target_} cannot be used: {error}", cure)]


def _initial_weights(config: Config) -> Fault | None:
    """Whether the weights that timm is to start from are there."""
    from xlatrain.models.pretrained import unreachable_weights

    arguments = config.model.kwargs
    path = arguments.get("checkpoint_path")
    if path and not Path(str(path)).is_file():
        return Fault("model.kwargs.checkpoint_path", f"there is no file {path}", "name a file of weights")
    if not arguments.get("pretrained") or not (problem := unreachable_weights(config.model.name, arguments)):
        return None
    cure = "fetch them where there is a network, and give the file: +model.kwargs.checkpoint_path=FILE"
    return Fault("model.kwargs.pretrained", problem, f"{cure}, or leave it out")


def _image_memory(config: Config) -> Fault | None:
    """An image of which not even one fits the memory of each replica; what a model makes of it takes far more."""
    cluster, size = config.cluster, config.data.image_size
    if cluster.platform == "cpu":
        memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / max(1, cluster.replicas)
        whose = f"the memory of this machine is {memory / _GIB:.1f} GiB for each of {cluster.replicas} replicas"
    elif cluster.chip and cluster.chip.hbm_gib:
        memory = cluster.chip.hbm_gib * _GIB / cluster.chip.devices
        whose = f"a replica on {cluster.chip.name} has {memory / _GIB:g} GiB"
    else:
        return None
    if size * size * _PIXEL_BYTES <= memory:
        return None
    largest = math.isqrt(int(memory) // _PIXEL_BYTES)
    problem = f"one image of {size:,} x {size:,} pixels takes {size * size * _PIXEL_BYTES / _GIB:.1f} GiB; {whose}"
    return Fault("data.image_size", problem, f"take less than {largest:,}, far less for most models")
