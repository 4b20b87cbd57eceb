"""A model, of timm's by name or one's own, seeded. The other files here: what XLA needs changed in it, its FLOPs, and
whether timm's pretrained weights can be had."""

from __future__ import annotations

import contextlib
import difflib
import os
import textwrap
import warnings
from collections.abc import Iterator
from typing import Any

import timm
import torch
from torch import nn

from xlatrain.config.schema import ModelConfig
from xlatrain.config.targets import find_part


def build_model(config: ModelConfig, num_classes: int, image_size: int, seed: int) -> nn.Module:
    """The model on the CPU, float32, its weights exactly torch.manual_seed(seed); timm.create_model(name, ...), or what
    model._target_ gives.

    Not thread-safe: torch has one CPU generator per process. Raises ValueError for a wrong name or argument.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return _create(config, num_classes, image_size)


def check_model(config: ModelConfig, num_classes: int, image_size: int) -> nn.Module:
    """Build the model without memory or numbers, and see what it makes of an image. Raises ValueError as build_model
    does, and for a model that cannot take images of this size or gives no logits."""
    try:
        with torch.device("meta"), warnings.catch_warnings():
            # Weights of a file are compared with the model's in name and shape; torch says of each that it copies
            # nothing.
            warnings.filterwarnings("ignore", ".*copying from a non-meta parameter")
            model = _create(config, num_classes, image_size)
    except ValueError:
        if not config._target_:
            raise
        model = build_model(config, num_classes, image_size, seed=0)  # it may want numbers while it is made
    _see_logits(model, num_classes, image_size)
    return model


def _see_logits(model: nn.Module, num_classes: int, image_size: int) -> None:
    """Pass one image through a model, most often one without memory. Raises ValueError."""
    device = next((p.device for p in model.parameters()), torch.device("meta"))
    try:
        with torch.no_grad(), device:
            logits = model.eval()(torch.zeros(1, 3, image_size, image_size))
    except Exception as error:
        if isinstance(error, NotImplementedError) or "meta" in str(error):
            return  # it has an operation that needs numbers: the run will show
        raise ValueError(f"it cannot take an image of {image_size} x {image_size} pixels: {_cause(error)}") from error
    finally:
        model.train()
    if getattr(logits, "shape", None) != (1, num_classes):
        raise ValueError(f"it gives no {num_classes} logits for an image")


def is_known(name: str) -> bool:
    """Whether timm has a model of this name, with or without a tag of weights."""
    return name.partition(".")[0] in timm.list_models()


def nearest_names(name: str) -> list[str]:
    """timm model names spelled like this one."""
    return difflib.get_close_matches(name, timm.list_models(), n=3, cutoff=0.5)


def timm_arguments(config: ModelConfig, num_classes: int, image_size: int) -> dict[str, Any] | None:
    """The arguments of timm.create_model for a model; None for one's own. Raises RuntimeError for a wrong name."""
    if config._target_:
        return None
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
        if config._target_:
            model = find_part(config._target_)(num_classes=num_classes, **config.kwargs)
        else:
            with _without_pickles():
                model = timm.create_model(**timm_arguments(config, num_classes, image_size))
    except Exception as error:  # whatever timm, torch, a reader of weights or one's own code make of the arguments
        raise ValueError(_cause(error)) from error
    if not isinstance(model, nn.Module):
        raise ValueError(f"it gives a {type(model).__name__}, no nn.Module")
    if config.zero_init_residual and not zero_residuals(model):
        raise ValueError("it has no residual block that ends with a batch norm, so zero_init_residual has no effect")
    return model


@contextlib.contextmanager
def _without_pickles() -> Iterator[None]:
    """torch.load reads tensors and nothing else, whatever timm of any version asks of it: a file of weights cannot run
    code."""
    names = "TORCH_FORCE_WEIGHTS_ONLY_LOAD", "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"
    before = {name: os.environ.pop(name, None) for name in names}
    os.environ[names[0]] = "1"
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value


def _cause(error: Exception) -> str:
    """What an error says, in one line of reasonable length: torch names what does not fit from its second line on."""
    lines = [textwrap.shorten(line, 240, placeholder=" ...") for line in str(error).splitlines() if line.strip()]
    plain = isinstance(error, (RuntimeError, TypeError, ValueError, AssertionError, OSError)) and lines
    return ": ".join(["" if plain else type(error).__name__, " ".join(lines[:4])]).strip(": ")


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
