"""A sweep while it runs: its jobs in turn, or as Hydra's sweepers and launchers choose and start them."""

from __future__ import annotations

import shutil
import sys
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.types import Quote, QuotedString
from omegaconf import DictConfig

from xlatrain.cli.by_hydra import run_hydra, unmute
from xlatrain.cli.sweep import Checked, check_sweep
from xlatrain.cli.tables import print_results
from xlatrain.config.choices import search_path, split_command
from xlatrain.config.compose import to_config
from xlatrain.config.schema import Config
from xlatrain.credentials import masked
from xlatrain.engine.checkpoints import checkpoint_store
from xlatrain.engine.run import free_name
from xlatrain.engine.run_folder import claimed_folder
from xlatrain.errors import EXIT_DONE, EXIT_FAILED, EXIT_STOPPED, ConfigError, Fault, ReplicaError
from xlatrain.files import write_json


@dataclass(frozen=True)
class Act:
    """What is done with the command of a job, and with one that Hydra has composed."""

    check: Callable[[Sequence[str]], Checked]
    check_config: Callable[[Config, Sequence[str]], Checked]
    run: Callable[[Checked, str | None], dict[str, Any]]


def run_sweep(verb: str, act: Act, command: list[str]) -> int:
    """Check a sweep, run its jobs, print a table of results. With options of Hydra's own its sweeper and launcher
    choose and start the jobs; else they are run here, in turn, as they were checked."""
    folders, overrides = split_command(command)
    sweep = check_sweep(command, act.check)
    first, objective = sweep.first, sweep.first.sweep.objective
    if verb == "eval" and objective == "images_per_second":
        raise ConfigError(Fault("sweep.objective", "an evaluation does not measure images_per_second", "take top1"))
    name = first.run.name or free_name(first.run.root, "sweep")
    for number, checked in enumerate(sweep.jobs if verb == "train" else []):
        _refuse_checkpoints_of_another(checked.config, f"{name}/{number}")

    def run(number: int, job_overrides: list[str], checked: Callable[[], Checked]) -> float | None:
        """Returns the objective. A failure is told to a sweeper that learns from it; the basic one it would end."""
        sys.stderr.write(f"\njob {number}: {' '.join(job_overrides)}\n")
        try:
            return act.run(checked(), f"{name}/{number}")[objective]
        except Exception as error:
            _tell(error, folder / str(number), job_overrides)
            if isinstance(error, ReplicaError) and (error.exit_code > 128 or error.exit_code == EXIT_STOPPED):
                raise SystemExit(error.exit_code) from None
            if sweep.listed:
                return None
            raise

    def job(composed: DictConfig) -> float | None:
        unmute()
        job_overrides = [*folders, *HydraConfig.get().overrides.task]
        return run(
            HydraConfig.get().job.num, job_overrides, lambda: act.check_config(to_config(composed), job_overrides)
        )

    with claimed_folder(first.run.root, name) as folder:
        failed = ""
        if sweep.settings:
            where = [f"hydra.sweep.dir={_quoted(folder)}", *search_path(folders)]
            failed = run_hydra(job, ["-m", *where, *overrides, *sweep.settings])
        for number, checked in enumerate([] if sweep.settings else sweep.jobs):
            run(number, list(checked.overrides), lambda checked=checked: checked)
        if not any(folder.glob("*/")):
            shutil.rmtree(folder)
            raise ConfigError(Fault("hydra", failed or "the sweeper chose no job", "correct hydra.sweeper or launcher"))
        if failed:
            sys.stderr.write(f"\nthe sweep ended early: {failed}\n")
        return max(print_results(folder, objective), EXIT_FAILED if failed else EXIT_DONE)


def _refuse_checkpoints_of_another(config: Config, name: str) -> None:
    """A sweep begins anew, and what an earlier one of its name has left is kept aside: not so checkpoints that lie
    elsewhere, from which a job with other options would go on, or be refused in the midst of the sweep. Raises
    ConfigError."""
    if config.checkpoint.folder is None:
        return
    store = checkpoint_store(config, Path(config.run.root) / name)
    if store.names():
        problem = f"{store.place} has checkpoints of an earlier sweep of this name"
        raise ConfigError(Fault("run.name", problem, "take another name, or remove them"))


def _quoted(path: Path) -> str:
    """A path as the value of an override."""
    return QuotedString(str(path), Quote.single).with_quotes()


def _tell(error: Exception, folder: Path, overrides: list[str]) -> None:
    """Say why a job failed, and see that its folder says so too."""
    report = error.report.rstrip() if isinstance(error, ReplicaError) else str(error)
    if not isinstance(error, (ReplicaError, ConfigError)):
        report = "".join(traceback.format_exception(error)).rstrip()
    sys.stderr.write(f"\n{report}\n")
    if not (folder / "summary.json").exists():
        folder.mkdir(parents=True, exist_ok=True)
        last = report.splitlines()[0 if isinstance(error, ConfigError) else -1]
        about = {"run": str(folder), "overrides": overrides}
        write_json(folder / "summary.json", masked({"status": "failed", "error": last, **about}))
