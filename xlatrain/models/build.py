"""A timm model by name, seeded, with what XLA needs changed in it."""

from __future__ import annotations

import difflib
from typing import Any

import timm
import torch
from torch import nn

from xlatrain.config import ModelConfig


def build_model(config: ModelConfig, num_classes: int, image_size: int, seed: int) -> nn.Module:
    """The model on the CPU, float32, its weights exactly torch.manual_seed(seed); timm.create_model(name, ...).

    Not thread-safe: torch has one CPU generator per process. Raises ValueError for a wrong name or argument.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return _create(config, num_classes, image_size)


def check_model(config: ModelConfig, num_classes: int, image_size: int) -> nn.Module:
    """Build the model without memory or numbers; raises ValueError as build_model does."""
    with torch.device("meta"):
        return _create(config, num_classes, image_size)


def nearest_names(name: str) -> list[str]:
    """timm model names spelled like this one."""
    return difflib.get_close_matches(name, timm.list_models(), n=3, cutoff=0.5)


def timm_arguments(config: ModelConfig, num_classes: int, image_size: int) -> dict[str, Any]:
    """The arguments of timm.create_model for a model. Raises RuntimeError for a wrong name."""
    arguments: dict[str, Any] = {"model_name": config.name, "num_classes": num_classes, **config.kwargs}
    for key, value in (
        ("drop_rate", config.drop_rate),
        ("drop_path_rate", config.drop_path_rate),
        ("global_pool", config.pool),
    ):
        if value is not None:
            arguments[key] = value
    if timm.get_pretrained_cfg_value(config.name, "fixed_input_size"):
        arguments.setdefault("img_size", image_size)
    return arguments


def _create(config: ModelConfig, num_classes: int, image_size: int) -> nn.Module:
    try:
        model = timm.create_model(**timm_arguments(config, num_classes, image_size))
    except (RuntimeError, TypeError, AssertionError) as error:
        raise ValueError(str(error).splitlines()[0]) from error
    if config.zero_init_residual and not zero_residuals(model):
        raise ValueError("it has no residual block that ends with a batch norm, so zero_init_residual has no effect")
    return model


def zero_residuals(model: nn.Module) -> int:
    """Set the scale of the last batch norm of each residual block to 0, so that the block starts as the identity (Goyal
    et al., arXiv:1706.02677; recalled); returns how many. A block is a module of timm's with a skip connection."""
    count = 0
    for block in model.modules():
        if not (getattr(block, "has_skip", False) or type(block).__name__ in ("BasicBlock", "Bottleneck")):
            continue
        norms = [child for child in block.children() if isinstance(child, nn.BatchNorm2d)]
        if norms and norms[-1].affine:
            nn.init.zeros_(norms[-1].weight)
            count += 1
    return count


def last_layer(model: nn.Module) -> tuple[str, ...]:
    """The names of the classifier's parameters."""
    classifier = model.get_classifier() if hasattr(model, "get_classifier") else None
    if not isinstance(classifier, nn.Module):
        return ()
    mine = {id(p) for p in classifier.parameters()}
    return tuple(name for name, p in model.named_parameters() if id(p) in mine)
