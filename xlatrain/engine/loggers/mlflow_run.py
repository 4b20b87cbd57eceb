"""A run of MLflow, by its own client, whose variables hold: MLFLOW_TRACKING_URI and the like."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from typing import Any

from xlatrain.engine.loggers.logger import Numbers

_PARAMS = 100  # that MLflow takes at once


class MlflowRun:
    """name, project: of run and experiment. uri: of the server, or a folder as file:FOLDER; None = as MLflow has it.
    number: of the run that is gone on with, None of a new one; `self.number` has it then."""

    def __init__(self, name: str, project: str, uri: str | None, number: str | None, options: dict[str, Any]):
        if uri and uri.startswith("file:"):
            os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")  # who names a folder wants a folder
        import mlflow
        from mlflow.entities import Metric, Param

        self._metric = Metric
        self._client = mlflow.MlflowClient(tracking_uri=uri)
        if number is None:
            found = self._client.get_experiment_by_name(project)
            experiment = found.experiment_id if found else self._client.create_experiment(project)
            number = self._client.create_run(experiment, run_name=name).info.run_id
            params = [Param(key, str(value)[:500]) for key, value in flat(options)]
            for first in range(0, len(params), _PARAMS):
                self._client.log_batch(number, params=params[first : first + _PARAMS])
        else:
            self._client.update_run(number, status="RUNNING")
        self.number = number

    def write(self, kind: str, step: int, epoch: float, values: Numbers) -> None:
        now = int(1000 * time.time())
        found = {"epoch": epoch, **{f"{kind}/{name}": value for name, value in values.items()}}
        self._client.log_batch(self.number, [self._metric(name, value, now, step) for name, value in found.items()])

    def flush(self) -> None:
        """All is sent at once."""

    def close(self) -> None:
        self._client.set_terminated(self.number, "FINISHED")


def flat(options: dict[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    """The options one by one, as train.seed and its value."""
    for key, value in options.items():
        if isinstance(value, dict):
            yield from flat(value, f"{before}{key}.")
        else:
            yield f"{before}{key}", value
