"""An export of weights in the parent process: written, loaded again, compared, and only then where it was asked for."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from xlatrain.engine.run import placement
from xlatrain.errors import DataError
from xlatrain.files import drafted
from xlatrain.formats.check_export import check_export_of_weights
from xlatrain.formats.checked import CheckedExport, Comparison
from xlatrain.formats.plain import prepared

# Of the largest logit. Float32 sums in another order come to about 1e-6 of it, of a deep network to 1e-5; an exported
# model computes in float32 also what a bf16 run evaluates in bf16, or rounds to bf16 elsewhere.
_ALLOWED = {"fp32": 1e-3, "bf16": 0.1}
_WRITERS = {"timm": "timm_folder", "onnx": "onnx_file", "torch": "torch_file"}


def export_weights(
    export: CheckedExport | str,
    overrides: Sequence[str] = (),
    out: str | Path | None = None,
    say: Callable[[str], None] = lambda text: None,
) -> Comparison:
    """Export weights as was checked, or to the format of a name by overrides, compare the result with the captured
    evaluation step on images of the validation set, and only then put it where it was asked for. say: told what
    happens.

    Raises ConfigError before anything is started, ReplicaError, and DataError where the two do not agree. A script that
    calls this needs the usual guard, if __name__ == "__main__"."""
    from xlatrain.xla.launch import launch

    if not isinstance(export, CheckedExport):
        export = check_export_of_weights(export, overrides, None if out is None else str(out))
    evaluation = export.evaluation
    with drafted(export.out, folder=not export.kind.suffix) as draft:
        say(f"evaluating {evaluation.config.weights} on images of the validation set")
        target, where = "xlatrain.formats.reference:make_reference", placement(evaluation.config)
        found = launch(target, export, draft.absolute(), environment={"JAX_PLATFORMS": "cpu"}, **where)
        if (again := found.again) is None:
            writer = importlib.import_module(f"xlatrain.formats.{_WRITERS[export.kind.name]}")
            say(f"writing {export.out}")
            try:
                writer.write(evaluation, draft)
            except Exception as error:  # of torch's and timm's exporters, for a model that they do not take
                model = evaluation.config.model._target_ or evaluation.config.model.name
                raise DataError(f"{model} cannot be exported: {_cause(error)}") from error
            say("loading it again")
            again = writer.run(draft, prepared(evaluation, found.images))
        comparison = compare(found.logits, again, evaluation.config.precision.name)
        if not comparison.agrees:
            raise DataError(f"nothing was written: {in_words(comparison)}")
    return comparison


def compare(wanted: np.ndarray, found: np.ndarray, precision: str) -> Comparison:
    """Logits float32 [N, classes] of the evaluation step and of what was exported. precision: of the run."""
    largest = float(np.abs(found.astype(np.float64) - wanted).max()) if found.shape == wanted.shape else float("nan")
    allowed = _ALLOWED[precision] * max(1.0, float(np.abs(wanted).max()))
    same = int((found.argmax(1) == wanted.argmax(1)).sum()) if found.shape == wanted.shape else 0
    return Comparison(len(wanted), wanted.size, largest, allowed, same)


def in_words(comparison: Comparison) -> str:
    """How near an export is to the evaluation step."""
    c = comparison
    return (
        f"largest difference of {c.logits:,} logits on {c.images} images from the evaluation step {c.largest:.2g}, "
        f"allowed {c.allowed:.2g}; the same class for {c.same_class} of {c.images}"
    )


def _cause(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {' '.join(lines[:2])[:400]}"
