"""Weights that a run starts from: where they lie, in which form, and how a model takes them."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import nn

from xlatrain.checkpoint.manifest import MANIFEST, TENSORS, DamagedError, step_of
from xlatrain.checkpoint.read import check_tensors, find_newest, read_manifest
from xlatrain.checkpoint.store import LocalStore
from xlatrain.checkpoint.weight import Weight
from xlatrain.errors import ConfigError, Fault, in_a_line
from xlatrain.models.classifier import head_names
from xlatrain.preflight.weights_file import HUB_WEIGHTS, WEIGHTS, needed_tensors, places_of, readable, without_old

_BUNDLE = "xlatrain bundle"  # the format of a bundle's manifest.json
_MOST = 64 << 20  # bytes of one
_CURE = (
    "name a safetensors file, or the folder of a run, of a checkpoint, of a model of timm's, or that `xlatrain export "
    "step` wrote"
)
Tensors = dict[str, torch.Tensor]


@dataclass(frozen=True)
class Origin:
    """file: of the tensors, by their names, or flat ones where there are places. kind: what it is, in words. new: the
    tensors of the model that are not taken from it. facts: what it says of itself, as JSON, if it does."""

    file: Path
    kind: str
    places: tuple[Weight, ...] | None = None
    new: frozenset[str] = frozenset()


def find_origin(text: str, root: str) -> Origin:
    """What a path, or the name of a run under run.root, stands for. Raises ConfigError."""
    faults = []
    for place in places_of(text, root):
        try:
            return _origin(place.absolute())
        except ConfigError as error:
            faults += error.faults
    missing = Fault("weights", f"there is no file or folder {text}, and no run of that name in {root}", _CURE)
    raise ConfigError(faults[0] if faults else missing)


def _origin(path: Path) -> Origin:
    """What a path that is there stands for. Raises ConfigError."""
    if path.is_file():
        if path.name == TENSORS and step_of(path.parent.name) is not None:
            return _checkpoint(path.parent)
        return Origin(path, "tensors by name")
    if (path / WEIGHTS).is_file():
        return Origin(path / WEIGHTS, "a run's weights, the average where one was kept")
    if (path / HUB_WEIGHTS).is_file():
        return Origin(path / HUB_WEIGHTS, "a model of timm's")
    if step_of(path.name) is not None:
        return _checkpoint(path)
    if (path / MANIFEST).is_file():
        return _bundle(path)
    for folder in (path / "checkpoints", path):
        passed: list[str] = []
        if newest := find_newest(LocalStore(folder), passed.append).manifest:
            return _checkpoint(folder / newest.name)
        if passed:
            raise ConfigError(Fault("weights", f"of the checkpoints in {folder} none is sound", "name other weights"))
    if (path / "config.yaml").is_file() and (path / "heartbeats").is_dir():
        raise ConfigError(Fault("weights", f"the run {path} has saved nothing yet", "wait for its first checkpoint"))
    raise ConfigError(Fault("weights", f"the folder {path} holds no weights that are known here", _CURE))


def read_origin(origin: Origin) -> Tensors:
    """The tensors of an origin by the names of its model, on the host. Raises ConfigError."""
    with readable(origin.file):
        held = load_file(origin.file)
    if origin.places is None:
        return without_old(held)
    found = {}
    for place in origin.places:
        flat = held[place.of]
        if flat.ndim == 2:  # statistics of groups of replicas, a row for each
            flat = flat.double().mean(0).float()
        values = flat.reshape(-1)[place.start : place.start + math.prod(place.shape)].reshape(place.shape)
        found[place.name] = values.permute(place.axes) if place.axes else values
    return found


@dataclass(frozen=True)
class Fit:
    """How the tensors of an origin go with a model, by name. resized: shape there and here; new: of the head; unused:
    of the file alone, of its head; misfits: what else does not fit, and why."""

    taken: tuple[str, ...]
    resized: Mapping[str, tuple[list[int], list[int]]]
    new: tuple[str, ...]
    unused: tuple[str, ...]
    misfits: Mapping[str, str]


def adapted(tensors: Tensors, model: nn.Module) -> Tensors:
    """The tensors as the model has them: older names of timm's and positions of other image sizes, by the function that
    timm keeps beside its model. Raises ValueError."""
    needed = needed_tensors(model)
    if all(name in tensors and tensors[name].shape == t.shape for name, t in needed.items()):
        return tensors
    convert = getattr(sys.modules.get(type(model).__module__), "checkpoint_filter_fn", None)
    if convert is None:
        return tensors
    try:
        return convert(dict(tensors), model)
    except Exception as error:  # of timm's, met with tensors of who knows what
        raise ValueError(f"timm cannot fit them to {type(model).__name__}: {in_a_line(error)}") from error


def fit(there: Tensors, model: nn.Module, new_head: bool) -> Fit:
    """How tensors, once adapted, fit. there: as the file has them. Raises ValueError. new_head: none of it is taken."""
    tensors, needed, head = adapted(there, model), needed_tensors(model), head_names(model)

    def same(name: str) -> bool:
        return name in tensors and tensors[name].shape == needed[name].shape

    new = head if new_head or not all(map(same, head)) else frozenset()
    taken = [name for name in needed if name not in new and same(name)]
    misfits = {}
    for name in needed:
        if name not in new and not same(name):
            here = list(needed[name].shape)
            why = f"has shape {list(tensors[name].shape)} there, {here} here" if name in tensors else "is not in it"
            misfits[name] = why
    known = {*needed, *dict(model.named_buffers()), *dict(model.named_parameters(remove_duplicate=False))}
    owners = {name.rpartition(".")[0].partition(".")[0] for name in head}
    more = [name for name in tensors if name not in known and not name.endswith("num_batches_tracked")]
    unused = [name for name in more if name.partition(".")[0] in owners]
    misfits |= {name: "is not in the model" for name in more if name not in unused}
    resized = {
        name: (list(there[name].shape), list(needed[name].shape))
        for name in taken
        if name in there and there[name].shape != needed[name].shape
    }
    return Fit(tuple(taken), resized, tuple(n for n in needed if n in new), tuple(unused), misfits)


def take_weights(model: nn.Module, origin: Origin) -> None:
    """Put an origin's tensors in place of the model's, but for those that are new. They were seen to fit (fit)."""
    tensors, needed = adapted(read_origin(origin), model), needed_tensors(model)
    with torch.no_grad():
        for name, tensor in needed.items():
            if name not in origin.new:
                tensor.copy_(tensors[name])


def without(origin: Origin, new: Iterable[str]) -> Origin:
    """The origin, of which these tensors are not taken."""
    return replace(origin, new=frozenset(new))


def _checkpoint(folder: Path) -> Origin:
    """A checkpoint of a run; of what is averaged the average."""
    store = LocalStore(folder.parent)
    try:
        manifest = read_manifest(store, folder.name)
        check_tensors(store, manifest)
        held, averaged = _names(folder / TENSORS), "the average"
        prefix = "ema_"
        if "ema_params" not in held:
            prefix, averaged = "", "no average"
        places = []
        for part, entries in manifest.facts["layout"].items():
            of = f"{prefix}{part}" if f"{prefix}{part}" in held else part
            places += [_place(name, of, *where) for name, *where in entries]
    except (DamagedError, KeyError, TypeError, ValueError) as error:
        what = error if isinstance(error, DamagedError) else f"its manifest lacks what is needed ({error!r})"
        raise ConfigError(Fault("weights", f"the checkpoint {folder} cannot be read: {what}", _CURE)) from None
    return Origin(folder / TENSORS, f"a checkpoint of step {manifest.step:,}, {averaged}", tuple(places))


def _bundle(folder: Path) -> Origin:
    """The first state in a bundle of `xlatrain export step`."""
    path = folder / MANIFEST
    try:
        if path.stat().st_size > _MOST:
            raise ValueError(f"it is larger than {_MOST:,} bytes")
        content: dict[str, Any] = json.loads(path.read_text())
        if content.get("format") != _BUNDLE:
            raise ValueError(f"it is of no {_BUNDLE}")
        name = content["steps"]["train"]["tensors"]
        if name != Path(name).name:
            raise ValueError(f"{name!r} is no file of its folder")
        held = _names(folder / name)
        entries = [w for w in content["weights"] if w["of"] in held]
        places = [_place(*(w[key] for key in ("name", "of", "start", "shape", "axes"))) for w in entries]
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ConfigError(Fault("weights", f"{path} cannot be used: {in_a_line(error)}", _CURE)) from None
    return Origin(folder / name, "a bundle", tuple(places))


def _place(name: str, of: str, start: int, shape: Sequence[int], axes: Sequence[int] | None) -> Weight:
    """As JSON has it."""
    return Weight(name, of, start, tuple(shape), tuple(axes) if axes else None)


def _names(path: Path) -> Collection[str]:
    with readable(path), safe_open(path, "pt") as file:
        return set(file.keys())
