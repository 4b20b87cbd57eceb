"""Weights on disk: safetensors under the names of the timm model, and what they know of themselves."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import torch
from safetensors.torch import load_file, save

from xlatrain.engine.contract import TrainState, Weights
from xlatrain.engine.state import ModelLayout
from xlatrain.preflight.facts import Facts
from xlatrain.preflight.weights_file import FACTS_KEY, RAW_WEIGHTS, WEIGHTS, readable


def save_weights(
    folder: Path,
    state: TrainState,
    layout: ModelLayout,
    frozen: Mapping[str, torch.Tensor],
    facts: Facts,
) -> dict[str, str]:
    """Save the weights meant for use as weights.safetensors: exactly the names of the timm model. Where a moving
    average is kept these are the averaged ones, and the others go to weights_raw.safetensors. Returns the SHA-256 of
    each file by its name: the same facts and weights give the same bytes. state: on the host. frozen: the buffers of
    the model's state dict that do not change."""
    constant = {name: torch.tensor(int(state.step)) for name in layout.counters} | dict(frozen)
    files = {WEIGHTS: (state.weights, facts)}
    if state.ema_params is not None:
        files[RAW_WEIGHTS] = (state.raw_weights, replace(facts, averaged=False))
    digests = {}
    for name, (weights, about) in files.items():
        tensors = layout.unpack(weights) | constant
        tensors |= {further: tensors[name] for further, name in layout.aliases}
        content = save({n: t.clone().contiguous() for n, t in tensors.items()}, {FACTS_KEY: about.to_json()})
        draft = folder / (name + ".part")
        draft.write_bytes(content)
        draft.replace(folder / name)
        digests[name] = hashlib.sha256(content).hexdigest()
    return digests


def load_weights(path: Path, layout: ModelLayout) -> Weights:
    """Read a weights file, which preflight saw to fit, into flat ones, on the host. Raises ConfigError when it can
    no longer be read."""
    with readable(path):
        tensors = load_file(path)
    return layout.pack(tensors)


def sha256(path: Path) -> str:
    """The SHA-256 of a file."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest()
