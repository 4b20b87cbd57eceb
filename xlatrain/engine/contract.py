"""What goes into the captured steps and what comes out of them, by name: written here, but for the names of a batch,
which data.batch has.

A captured step takes and returns plain dicts of tensors (xla.capture). A class here is one of these dicts: a field is a
name in it; a field that holds a dict has its names behind its own, as in `slots/momentum`; one that is None is not in
it. Metrics and sums of an evaluation are one vector in it, in the order of the fields. S: values of the flat
parameters, B: of the flat buffers (optim.flat).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, TypeVar

import numpy as np
import torch

Tensors = dict[str, torch.Tensor]
T = TypeVar("T", bound="Named")


@dataclass(frozen=True)
class Named:
    """Tensors by name."""

    def tensors(self) -> Tensors:
        """As a captured step takes them."""
        found: Tensors = {}
        for f in fields(self):
            value = getattr(self, f.name)
            if isinstance(value, dict):
                found |= {f"{f.name}/{name}": tensor for name, tensor in value.items()}
            elif value is not None:
                found[f.name] = value
        return found

    @classmethod
    def of(cls: type[T], tensors: Mapping[str, torch.Tensor]) -> T:
        """From what a captured step is given; names that are not of this kind are left out."""
        values: dict[str, Any] = {}
        for f in fields(cls):
            if f.default_factory is dict:
                start = f"{f.name}/"
                values[f.name] = {n.removeprefix(start): t for n, t in tensors.items() if n.startswith(start)}
            else:
                values[f.name] = tensors.get(f.name)
        return cls(**values)


@dataclass(frozen=True)
class Weights(Named):
    """What a model computes with. params: float32 [S]; buffers: float32 [B]; fixed: float32 [F], what
    finetune.freeze keeps as it is, where something is."""

    params: torch.Tensor
    buffers: torch.Tensor
    fixed: torch.Tensor | None = None


@dataclass(frozen=True)
class TrainState(Named):
    """The carry of a train step. params, each slot and ema_params: float32 [S]; buffers, ema_buffers: float32 [B];
    the ema_ ones where an average is kept. fixed: as of Weights; no step changes it. step, skipped (updates so far),
    skipped_in_a_row, rng: int64 []."""

    params: torch.Tensor
    buffers: torch.Tensor
    slots: Tensors = field(default_factory=dict)
    ema_params: torch.Tensor | None = None
    ema_buffers: torch.Tensor | None = None
    fixed: torch.Tensor | None = None
    step: torch.Tensor | None = None
    skipped: torch.Tensor | None = None
    skipped_in_a_row: torch.Tensor | None = None
    rng: torch.Tensor | None = None

    @staticmethod
    def counts(step: torch.Tensor, skipped: torch.Tensor, in_a_row: torch.Tensor, rng: torch.Tensor) -> Tensors:
        """The scalars alone, as they are carried."""
        return {"step": step, "skipped": skipped, "skipped_in_a_row": in_a_row, "rng": rng}

    def statistics(self) -> Tensors:
        """The buffers alone, as they are carried."""
        found = {"buffers": self.buffers, "ema_buffers": self.ema_buffers}
        return {name: tensor for name, tensor in found.items() if tensor is not None}

    @property
    def weights(self) -> Weights:
        """Those meant for use: the moving average's where one is kept."""
        return self.raw_weights if self.ema_params is None else Weights(self.ema_params, self.ema_buffers, self.fixed)

    @property
    def raw_weights(self) -> Weights:
        """Those that are trained."""
        return Weights(self.params, self.buffers, self.fixed)

    def unchanged(self) -> Tensors:
        """What a step hands on as it was given it."""
        return {} if self.fixed is None else {"fixed": self.fixed}


@dataclass(frozen=True)
class EvalTables(Named):
    """What every step reads and nothing changes. mean, std: float32 [3], of images in 0..1. stop: float32 [1], 0; a run
    that is asked to stop gives 1 in its place. frozen: the model's buffers that stay, by their names in it."""

    mean: torch.Tensor
    std: torch.Tensor
    stop: torch.Tensor
    frozen: Tensors = field(default_factory=dict)


@dataclass(frozen=True)
class TrainTables(EvalTables):
    """And what a train step reads. lr, momentum: float32 [steps of the run]. segments: int32 [rows], the tensor that a
    row of the flat parameters belongs to. scales, moves_from: as optim.pace has them, where tensors do not all move
    alike. Quantiles: float32 [augment.QUANTILES], where images are mixed."""

    lr: torch.Tensor | None = None
    momentum: torch.Tensor | None = None
    segments: torch.Tensor | None = None
    scales: torch.Tensor | None = None
    moves_from: torch.Tensor | None = None
    mixup_quantiles: torch.Tensor | None = None
    cutmix_quantiles: torch.Tensor | None = None


@dataclass(frozen=True)
class TrainMetrics:
    """What a train step reports, equal on all replicas. loss, top1: means over the global batch; skipped_samples: the
    share of it that could not be decoded; stop: the share of replicas that are asked to stop; skipped_steps: updates
    left out so far, as their gradient was not finite."""

    loss: torch.Tensor
    top1: torch.Tensor
    skipped_samples: torch.Tensor
    stop: torch.Tensor
    lr: torch.Tensor
    grad_norm: torch.Tensor
    skipped_steps: torch.Tensor
    skipped_in_a_row: torch.Tensor
    gradient_error: torch.Tensor | None = None

    def stacked(self) -> Tensors:
        """As one vector, one small transfer a step: `metrics` float32 [8], or [9] with gradient_error."""
        values = [getattr(self, f.name) for f in fields(self)]
        return {"metrics": torch.stack([v.float() for v in values if v is not None])}

    @classmethod
    def read(cls, outputs: Tensors) -> dict[str, float]:
        """The values of outputs on the host, by name."""
        values = outputs["metrics"].tolist()
        return {f.name: value for f, value in zip(fields(cls), values, strict=False)}


@dataclass(frozen=True)
class EvalSums:
    """What an evaluation step adds up over all replicas, in float32, exact up to 2^24 images. loss: of images; top1,
    top5: right answers; examples: images; skipped: images that could not be decoded."""

    loss: torch.Tensor
    top1: torch.Tensor
    top5: torch.Tensor
    examples: torch.Tensor
    skipped: torch.Tensor

    def stacked(self) -> torch.Tensor:
        """float32 [5]."""
        return torch.stack([getattr(self, f.name) for f in fields(self)])

    @classmethod
    def zero(cls) -> Tensors:
        """The carry before the first batch, on the host."""
        return {"sums": torch.zeros(len(fields(cls)))}

    @classmethod
    def read(cls, carry: Tensors) -> dict[str, float]:
        """The values of a carry on the host, by name."""
        return {f.name: value for f, value in zip(fields(cls), carry["sums"].tolist(), strict=True)}


@dataclass(frozen=True)
class Answers:
    """What a model answers to the images of a batch, on the host, rows without an image left out. numbers: of the
    images in their split, int64 [n]; logits: float32 [n, classes]; labels: int64 [n]; skipped: bool [n], of images that
    could not be decoded, whose logits say nothing."""

    numbers: np.ndarray
    logits: np.ndarray
    labels: np.ndarray
    skipped: np.ndarray

    @staticmethod
    def numbered(numbers: np.ndarray) -> torch.Tensor:
        """Numbers of images as a step takes them, exact in float32 up to 2^36: float32 [n, 2] of int64 [n]."""
        return torch.from_numpy(np.stack([numbers >> 12, numbers & 4095], 1)).float()

    @classmethod
    def read(cls, outputs: Tensors) -> Answers:
        """Of a step's outputs on the host."""
        told = outputs["answers"].numpy()
        high, low, labels, skipped = told[:, -4:].astype(np.int64).T
        numbers = (high << 12) + low
        there = numbers >= 0
        return cls(numbers[there], told[there, :-4], labels[there], skipped[there] == 1)
