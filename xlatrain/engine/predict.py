"""A prediction in the parent process: replicas are launched, and what they found is in a file."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from xlatrain.console import say
from xlatrain.engine.run import placement
from xlatrain.preflight.checked import CheckedPrediction
from xlatrain.preflight.prediction import check_prediction


def predict(
    prediction: CheckedPrediction | Sequence[str], paths: Sequence[str] = (), out: str | Path | None = None
) -> dict[str, Any]:
    """Predict as was checked, or by overrides for the images that paths name, and write the file `out`, by its suffix
    CSV, JSON lines or Parquet, whole or not at all. Returns how many images there were, how many of them damaged, and
    how fast it went.

    Raises ConfigError before any device is touched, DataError and ReplicaError. A script that calls this needs the
    usual guard, if __name__ == "__main__"."""
    from xlatrain.xla.launch import launch
    from xlatrain.xla.replica_main import Watch

    if not isinstance(prediction, CheckedPrediction):
        prediction = check_prediction(prediction, paths, None if out is None else str(out))
    started, config = time.perf_counter(), prediction.evaluation.config
    for note in prediction.evaluation.notes:
        say(note)
    with tempfile.TemporaryDirectory(prefix="xlatrain-heartbeats-") as heartbeats:
        watch = Watch(Path(heartbeats), config.engine.stall_after, stoppable=False)
        target = "xlatrain.engine.predict_replica:predict_replica"
        summary = launch(target, prediction, watch=watch, **placement(config))
    return {**summary, "wall_seconds": round(time.perf_counter() - started, 3), "out": str(prediction.out)}
