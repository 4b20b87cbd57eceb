"""Weights on disk: safetensors under the model's own names."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from xlatrain.errors import ConfigError, Fault
from xlatrain.state import ModelLayout, weights_in_use

RAW = "raw."  # prefix of the weights that are not averaged, beside the averaged ones


def save_weights(
    path: Path,
    state: Mapping[str, torch.Tensor],
    layout: ModelLayout,
    frozen: Mapping[str, torch.Tensor],
    metadata: Mapping[str, str],
) -> None:
    """Save the weights meant for use under plain names, loadable into the timm model; when a moving average is kept
    these are the averaged ones, and the raw ones are saved too, under `raw.` names. state: host tensors."""
    params, buffers = weights_in_use(state)
    tensors = _named(layout, params, buffers)
    if "ema_params" in state:
        tensors |= {RAW + n: t for n, t in _named(layout, state["params"], state["buffers"]).items()}
    tensors |= {name: torch.tensor(int(state["step"])) for name in layout.counters}
    tensors |= {name: tensor.clone() for name, tensor in frozen.items()}
    draft = path.with_name(path.name + ".part")
    save_file({n: t.contiguous() for n, t in tensors.items()}, draft, metadata=dict(metadata))
    draft.chmod(0o644)
    draft.replace(path)


def load_weights(path: Path, layout: ModelLayout, kind: str = "use") -> tuple[torch.Tensor, torch.Tensor]:
    """Read a weights file into flat (parameters, buffers). kind: "use", or "raw" for the unaveraged ones.

    Raises ConfigError when the file is not there, is none, or is of another model.
    """
    try:
        tensors = load_file(path)
    except FileNotFoundError:
        raise ConfigError(Fault("weights", f"there is no file {path}", "name a weights.safetensors")) from None
    except (SafetensorError, OSError) as error:
        raise ConfigError(
            Fault("weights", f"{path} cannot be read: {error}", "name a whole safetensors file")
        ) from None
    if kind == "raw":
        if not any(name.startswith(RAW) for name in tensors):
            raise ConfigError(
                Fault(
                    "weights_kind",
                    f"{path} holds no raw weights: it was saved without a moving average",
                    "leave weights_kind=use",
                )
            )
        tensors = {name.removeprefix(RAW): t for name, t in tensors.items() if name.startswith(RAW)}
    for part in (layout.parameters, layout.buffers):
        for name, shape in zip(part.names, part.shapes, strict=True):
            found = tensors[name].shape if name in tensors else None
            if found != shape:
                what = "is not in it" if found is None else f"has shape {list(found)} there, {list(shape)} here"
                raise ConfigError(
                    Fault(
                        "weights",
                        f"{path} does not fit the model: {name} {what}",
                        "give the model, data and image size that it was trained with",
                    )
                )
    return layout.parameters.pack(tensors), layout.buffers.pack(tensors)


def _named(layout: ModelLayout, params: torch.Tensor, buffers: torch.Tensor) -> dict[str, torch.Tensor]:
    return {n: t.clone() for n, t in (layout.parameters.unpack(params) | layout.buffers.unpack(buffers)).items()}
