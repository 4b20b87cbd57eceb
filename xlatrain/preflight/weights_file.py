"""What can be seen of a weights file without loading it: its names, its shapes, what it knows of itself."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from safetensors import SafetensorError, safe_open

from xlatrain.errors import ConfigError, Fault
from xlatrain.preflight.facts import Facts

if TYPE_CHECKING:
    import torch
    from torch import nn

T = TypeVar("T")
WEIGHTS, RAW_WEIGHTS = "weights.safetensors", "weights_raw.safetensors"

FACTS_KEY = "xlatrain"  # of the metadata. One key: the writer puts several in random order, and bytes would differ
_OLD_RAW = "raw."  # of names that earlier files held beside the model's


def read_facts(path: Path) -> Facts | None:
    """What a weights file knows of itself; None when it says nothing. Raises ConfigError when it cannot be read."""
    with readable(path), safe_open(path, "pt") as file:
        text = (file.metadata() or {}).get(FACTS_KEY)
        return None if text is None else Facts.from_json(text)


def check_fit(path: Path, model: nn.Module) -> None:
    """See that a file holds the parameters and running statistics of a model, in their shapes, and nothing that the
    model has not. Raises ConfigError."""
    with readable(path), safe_open(path, "pt") as file:
        found = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
    cure = "give the model, data and image size that it was trained with"
    needed = needed_tensors(model)
    for name, tensor in needed.items():
        if found.get(name) != tuple(tensor.shape):
            other = f"has shape {list(found.get(name, ()))} there, {list(tensor.shape)} here"
            what = other if name in found else "is not in it"
            raise ConfigError(Fault("weights", f"{path} does not fit the model: {name} {what}", cure))
    known = {*needed, *dict(model.named_buffers()), *dict(model.named_parameters(remove_duplicate=False))}
    if more := sorted(n for n in without_old(found) if n not in known):
        raise ConfigError(Fault("weights", f"{path} does not fit the model, which has no {more[0]}", cure))


def needed_tensors(model: nn.Module) -> dict[str, torch.Tensor]:
    """What a model needs of its weights, by name: parameters, each once, and running statistics."""
    needed: dict[str, torch.Tensor] = dict(model.named_parameters())
    for prefix, module in model.named_modules():
        if getattr(module, "running_mean", None) is not None:
            dot = f"{prefix}." if prefix else ""
            needed |= {f"{dot}{name}": getattr(module, name) for name in ("running_mean", "running_var")}
    return needed


def without_old(named: Mapping[str, T]) -> dict[str, T]:
    """What a file holds, but for what earlier ones had beside the model's."""
    return {name: value for name, value in named.items() if not name.startswith(_OLD_RAW)}


@contextlib.contextmanager
def readable(path: Path) -> Iterator[None]:
    """Says in a fault what is wrong with a file."""
    try:
        yield
    except FileNotFoundError:
        raise ConfigError(Fault("weights", f"there is no file {path}", "name a weights.safetensors")) from None
    except (SafetensorError, OSError, ValueError, MemoryError) as error:
        problem = f"{path} cannot be read: {error}"
        raise ConfigError(Fault("weights", problem, "name a whole safetensors file")) from None
