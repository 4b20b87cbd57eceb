"""The forward pass as torch.export has it, in a file that torch loads without the model's code."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import torch
from torch.export import Dim, ExportedProgram

from xlatrain.formats.about import KEY, as_text, describe
from xlatrain.formats.plain import plain_model
from xlatrain.preflight.checked import CheckedEvaluation

_ABOUT = f"{KEY}.json"  # the file in it that says what it is


def exported(evaluation: CheckedEvaluation) -> ExportedProgram:
    """The forward pass, for any number of images."""
    size = evaluation.config.data.image_size
    images = torch.zeros(2, 3, size, size)
    return torch.export.export(plain_model(evaluation), (images,), dynamic_shapes=({0: Dim("batch")},))


def write(evaluation: CheckedEvaluation, path: Path) -> None:
    """Write the file."""
    with path.open("wb") as file:
        torch.export.save(exported(evaluation), file, extra_files={_ABOUT: as_text(describe(evaluation))})


def run(path: Path, images: np.ndarray) -> np.ndarray:
    """The logits of the file's program: of one image, and of the others together."""
    with path.open("rb") as file, warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*buffer is not writable")  # torch's own reading of it
        model = torch.export.load(file).module()
    with torch.inference_mode():
        parts = [model(torch.from_numpy(part)).numpy() for part in (images[:1], images[1:]) if len(part)]
    return np.concatenate(parts)
