"""The part of the schema that describes a run beside what it computes: its folder, its checkpoints, a sweep's aim."""

from __future__ import annotations

from dataclasses import dataclass

from xlatrain.config.option import option


@dataclass
class RunConfig:
    root: str = option("runs", "folder of all runs")
    name: str | None = option(None, "this run's folder under root; null = made from model, data and time")
    resume: str = option(
        "auto",
        "a run that is there already goes on from its newest checkpoint (auto), also if options have changed that "
        "matter (force); never = it stays as it is, and a new one is called NAME-2",
        choices=("auto", "force", "never"),
    )


@dataclass
class CheckpointConfig:
    every: str | None = option(
        "eval",
        "how often the whole state is saved: a duration, or eval = after each evaluation; null = only when a run is "
        "told to stop",
        "duration",
    )
    keep: int = option(2, "how many of the newest stay", low=1)
    keep_every: str | None = option(None, "the first after each so long stays for good; null = none does", "duration")
    best: str | None = option(
        None, "the best by this, of those saved after an evaluation, stays too", choices=("top1", "loss")
    )
    folder: str | None = option(
        None,
        "folder or URL (gs://, s3://) that all machines see, in which runs have theirs, by their names; null = the run "
        "folder's checkpoints/",
    )


@dataclass
class LoggerConfig:
    tensorboard: bool = option(True, "event files in the run's folder")
    csv: bool = option(False, "train.csv and eval.csv in the run's folder")
    wandb: bool = option(False, "Weights & Biases, an extra; its own variables hold, as WANDB_MODE=offline")
    mlflow: bool = option(False, "MLflow, an extra; its own variables hold, as MLFLOW_TRACKING_URI")
    project: str = option("xlatrain", "project of Weights & Biases, experiment of MLflow")
    mlflow_uri: str | None = option(None, "server, or folder as in file:mlruns; null = as MLflow has it")


@dataclass
class SweepConfig:
    objective: str = option(
        "top1",
        "what the jobs of a sweep (-m) return to a sweeper that chooses as it goes, as Optuna's, and by what "
        "the table marks the best",
        choices=("top1", "top5", "loss", "images_per_second", "wall_seconds"),
    )
