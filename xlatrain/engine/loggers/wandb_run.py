"""A run of Weights & Biases, by its own client, whose variables hold: WANDB_MODE=offline, WANDB_ENTITY and the like."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from xlatrain.engine.loggers.logger import Numbers


class WandbRun:
    """number: of the run, which goes on under it. options: the configuration, without secrets."""

    def __init__(self, folder: Path, project: str, number: str, options: dict[str, Any]):
        import wandb

        settings = wandb.Settings(console="off", silent=True, x_disable_stats=True)
        self._run = wandb.init(
            project=project,
            name=folder.name,
            id=number,
            resume="allow",
            dir=str(folder),
            config=options,
            settings=settings,
        )
        # Not W&B's own step, which cannot go back where a run goes on from a checkpoint.
        self._run.define_metric("step")
        self._run.define_metric("*", step_metric="step")

    def write(self, kind: str, step: int, epoch: float, values: Numbers) -> None:
        self._run.log({"step": step, "epoch": epoch, **{f"{kind}/{name}": value for name, value in values.items()}})

    def flush(self) -> None:
        """The client sends as it goes."""

    def close(self) -> None:
        self._run.finish()
