"""What can be seen of a weights file without loading it: its names, its shapes, what it knows of itself."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from safetensors import SafetensorError, safe_open

from xlatrain.credentials import masked
from xlatrain.data.storage.access import access_cure
from xlatrain.data.storage.fetch import fetch
from xlatrain.data.storage.retry import ReadOptions
from xlatrain.errors import ConfigError, Fault, in_a_line
from xlatrain.files import user_cache
from xlatrain.preflight.facts import Facts

if TYPE_CHECKING:
    import torch
    from torch import nn

T = TypeVar("T")
WEIGHTS, RAW_WEIGHTS = "weights.safetensors", "weights_raw.safetensors"
HUB_WEIGHTS = "model.safetensors"  # of timm's folders, and of the hub

FACTS_KEY = "xlatrain"  # of the metadata. One key: the writer puts several in random order, and bytes would differ
_SUFFIX = ".safetensors"
_FEW = ReadOptions(retries=3)  # a command waits for it
_OLD_RAW = "raw."  # of names that earlier files held beside the model's


def places_of(text: str, root: str) -> list[Path]:
    """What is there by a name, the likeliest first: a file or folder, the folder of a run under run.root; of an address
    a copy, in the user's cache. Raises ConfigError where it cannot be fetched."""
    if "://" in text:
        return [_fetched(text)]
    if not text:
        return []
    return [path for path in (Path(text).expanduser(), Path(root) / text) if path.exists()]


def find_weights(text: str | None, root: str) -> Path:
    """The file of weights that a text names: itself, or that of a folder of a run or of timm's, or of a run by its name
    under run.root. Raises ConfigError."""
    cure = "give weights=runs/NAME, or weights=runs/NAME/weights.safetensors"
    if not text:
        raise ConfigError(Fault("weights", "no weights are named", cure))
    places = places_of(text, root)
    for place in places:
        for path in (place, place / WEIGHTS, place / HUB_WEIGHTS):
            if path.is_file():
                return path
    if not places:
        raise ConfigError(Fault("weights", f"there is no file {text}, and no run of that name in {root}", cure))
    if begun := next((place for place in places if (place / "config.yaml").is_file()), None):
        cure = "let it end: the same command goes on with it. `xlatrain train` starts from its checkpoints too"
        raise ConfigError(Fault("weights", f"the run {begun} has not come to {WEIGHTS} yet", cure))
    raise ConfigError(Fault("weights", f"the folder {places[0]} has no {WEIGHTS} and no {HUB_WEIGHTS}", cure))


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


def _fetched(url: str) -> Path:
    shown = masked(url)
    if not url.partition("?")[0].endswith(_SUFFIX):
        problem = f"{shown} is the address of no {_SUFFIX} file, which alone is fetched"
        raise ConfigError(Fault("weights", problem, f"name the file, as in gs://BUCKET/runs/NAME/{WEIGHTS}"))
    try:
        return fetch(url, user_cache() / "weights", "weights", _FEW)
    except OSError as error:
        why = "there is no such file" if isinstance(error, FileNotFoundError) else masked(in_a_line(error))
        problem = f"{shown} cannot be fetched: {why}"
        raise ConfigError(Fault("weights", problem, access_cure(shown, error))) from None


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
