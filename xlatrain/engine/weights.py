"""Weights on disk: safetensors under the names of the timm model, and what they know of themselves."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save

from xlatrain.engine.state import ModelLayout, weights_in_use
from xlatrain.errors import ConfigError, Fault
from xlatrain.preflight.facts import Facts

WEIGHTS, RAW_WEIGHTS = "weights.safetensors", "weights_raw.safetensors"
_FACTS = "xlatrain"  # one key: the writer puts several in random order, and the bytes of a file would tell nothing
_OLD_RAW = "raw."  # of names that earlier files held beside the model's


def save_weights(
    folder: Path,
    state: Mapping[str, torch.Tensor],
    layout: ModelLayout,
    frozen: Mapping[str, torch.Tensor],
    facts: Facts,
) -> dict[str, str]:
    """Save the weights meant for use as weights.safetensors: exactly the names of the timm model. Where a moving
    average is kept these are the averaged ones, and the others go to weights_raw.safetensors. Returns the SHA-256 of
    each file by its name: the same facts and weights give the same bytes. state: host tensors. frozen: the buffers of
    the model's state dict that do not change."""
    fixed = {name: torch.tensor(int(state["step"])) for name in layout.counters} | dict(frozen)
    files = {WEIGHTS: (*weights_in_use(state), facts)}
    if "ema_params" in state:
        files[RAW_WEIGHTS] = (state["params"], state["buffers"], replace(facts, averaged=False))
    digests = {}
    for name, (params, buffers, about) in files.items():
        tensors = layout.parameters.unpack(params) | layout.buffers.unpack(buffers) | fixed
        tensors |= {further: tensors[name] for further, name in layout.aliases}
        content = save({n: t.clone().contiguous() for n, t in tensors.items()}, {_FACTS: about.to_json()})
        draft = folder / (name + ".part")
        draft.write_bytes(content)
        draft.replace(folder / name)
        digests[name] = hashlib.sha256(content).hexdigest()
    return digests


def load_weights(path: Path, layout: ModelLayout) -> tuple[torch.Tensor, torch.Tensor]:
    """Read a weights file into flat (parameters, buffers).

    Raises ConfigError when the file is not there, is none, or is of another model.
    """
    with _readable(path):
        tensors = load_file(path)
    cure = "give the model, data and image size that it was trained with"
    for part in (layout.parameters, layout.buffers):
        for name, shape in zip(part.names, part.shapes, strict=True):
            found = tensors[name].shape if name in tensors else None
            if found != shape:
                what = "is not in it" if found is None else f"has shape {list(found)} there, {list(shape)} here"
                raise ConfigError(Fault("weights", f"{path} does not fit the model: {name} {what}", cure))
    known = {*layout.parameters.names, *layout.buffers.names, *layout.frozen, *layout.counters, *dict(layout.aliases)}
    if more := sorted(n for n in tensors if n not in known and not n.startswith(_OLD_RAW)):
        raise ConfigError(Fault("weights", f"{path} does not fit the model, which has no {more[0]}", cure))
    return layout.parameters.pack(tensors), layout.buffers.pack(tensors)


def read_facts(path: Path) -> Facts | None:
    """What a weights file knows of itself; None when it says nothing. Raises ConfigError when it cannot be read."""
    with _readable(path), safe_open(path, "pt") as file:
        text = (file.metadata() or {}).get(_FACTS)
        return None if text is None else Facts.from_json(text)


def sha256(path: Path) -> str:
    """The SHA-256 of a weights file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


@contextlib.contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Says in a fault what is wrong with a file."""
    try:
        yield
    except FileNotFoundError:
        raise ConfigError(Fault("weights", f"there is no file {path}", f"name a {WEIGHTS}")) from None
    except (SafetensorError, OSError, ValueError) as error:
        raise ConfigError(
            Fault("weights", f"{path} cannot be read: {error}", "name a whole safetensors file")
        ) from None
