"""The loggers that a configuration asks for."""

from __future__ import annotations

import json
import threading
import uuid
from pathlib import Path
from typing import Any

import yaml

from xlatrain.config.run import LoggerConfig
from xlatrain.engine.loggers.csv_tables import CsvTables
from xlatrain.engine.loggers.logger import Behind, Guarded, Logger, Say
from xlatrain.engine.loggers.mlflow_run import MlflowRun
from xlatrain.engine.loggers.tensorboard import TensorBoard
from xlatrain.engine.loggers.wandb_run import WandbRun
from xlatrain.files import write_json

NUMBERS = "loggers.json"  # of a run's folder: under which numbers servers have it
_lock = threading.Lock()


def open_loggers(
    config: LoggerConfig, folder: Path, metrics: Path, start: int | None, say: Say
) -> list[Logger]:
    """metrics: the metrics.jsonl that is written first. start: the step that the run goes on from."""
    found: list[Logger] = []
    if config.tensorboard:
        found.append(Guarded("TensorBoard", lambda: TensorBoard(folder, start), say))
    if config.csv:
        found.append(Guarded("CSV", lambda: CsvTables(folder, metrics), say))
    if config.wandb:
        found.append(Behind("Weights & Biases", lambda: _wandb(config, folder), say))
    if config.mlflow:
        found.append(Behind("MLflow", lambda: _mlflow(config, folder), say))
    return found


def _wandb(config: LoggerConfig, folder: Path) -> WandbRun:
    number = _number(folder, "wandb") or uuid.uuid4().hex[:8]
    run = WandbRun(folder, config.project, number, _options(folder))
    _keep_number(folder, "wandb", number)
    return run


def _mlflow(config: LoggerConfig, folder: Path) -> MlflowRun:
    run = MlflowRun(folder.name, config.project, config.mlflow_uri, _number(folder, "mlflow"), _options(folder))
    _keep_number(folder, "mlflow", run.number)
    return run


def _options(folder: Path) -> dict[str, Any]:
    """As they were written down when the run began: without secrets."""
    return yaml.safe_load((folder / "config.yaml").read_text())


def _numbers(folder: Path) -> dict[str, str]:
    try:
        return dict(json.loads((folder / NUMBERS).read_text()))
    except (OSError, ValueError, TypeError):
        return {}


def _number(folder: Path, server: str) -> str | None:
    return _numbers(folder).get(server)


def _keep_number(folder: Path, server: str, number: str) -> None:
    with _lock:  # each logger has a thread
        write_json(folder / NUMBERS, {**_numbers(folder), server: number})
