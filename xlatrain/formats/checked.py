"""What a check of an export hands on, and what an export came to."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from xlatrain.formats.kinds import Kind
from xlatrain.preflight.checked import CheckedEvaluation


@dataclass(frozen=True)
class CheckedExport:
    """An export that can be started. Picklable. evaluation: of its weights, on one replica of the CPU. batch: images
    that a program of fixed shapes takes at once."""

    kind: Kind
    evaluation: CheckedEvaluation
    out: Path
    batch: int = 1


@dataclass(frozen=True)
class Reference:
    """images: uint8 [N, H, W, 3]; logits: float32 [N, classes], of the evaluation step. again: the same of what was
    exported, where a replica is needed to export it."""

    images: np.ndarray
    logits: np.ndarray
    again: np.ndarray | None = None


@dataclass(frozen=True)
class Comparison:
    """How far what was exported is from the evaluation step on real images. largest: difference of any two logits;
    allowed: largest that is no error; same_class: images for which both say the same class."""

    images: int
    logits: int
    largest: float
    allowed: float
    same_class: int

    @property
    def agrees(self) -> bool:
        return self.largest <= self.allowed  # false for nan
