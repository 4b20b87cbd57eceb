"""The forward pass as ONNX, with a free batch dimension."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from pathlib import Path

import numpy as np
import torch
from torch.export import Dim

from xlatrain.formats.about import KEY, as_text, describe
from xlatrain.formats.plain import plain_model
from xlatrain.preflight.checked import CheckedEvaluation

_OPSET = 18  # of 2022: what runs ONNX today knows it


def write(evaluation: CheckedEvaluation, path: Path) -> None:
    """Write the file, its weights in it."""
    import onnx

    about, size = describe(evaluation), evaluation.config.data.image_size
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)  # it tells of every pass
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            plain_model(evaluation),
            (torch.zeros(2, 3, size, size),),
            dynamo=True,
            opset_version=_OPSET,
            input_names=[about["input"]["name"]],
            output_names=[about["output"]["name"]],
            dynamic_shapes=({0: Dim("batch")},),
            verbose=False,
        )
    model = program.model_proto
    onnx.helper.set_model_props(model, {KEY: as_text(about)})
    onnx.checker.check_model(model)
    onnx.save(model, path)


def run(path: Path, images: np.ndarray) -> np.ndarray:
    """The logits of the file's program by onnxruntime: of one image, and of the others together."""
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (name,) = (given.name for given in session.get_inputs())
    return np.concatenate([session.run(None, {name: part})[0] for part in (images[:1], images[1:]) if len(part)])
