"""A sweep while it runs: its jobs in turn, or as Hydra's sweepers and launchers choose and start them."""

from __future__ import annotations

import contextlib
import shutil
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.types import Quote, QuotedString
from omegaconf import DictConfig

from xlatrain.cli.by_hydra import run_hydra, unmute
from xlatrain.cli.sweep import Checked, check_sweep
from xlatrain.cli.sweep_record import JOBS, number_jobs, recorded_jobs, summary_of
from xlatrain.cli.sweep_results import show_results
from xlatrain.config.choices import search_path, split_command
from xlatrain.config.compose import to_config
from xlatrain.config.override import SWEEP
from xlatrain.config.schema import Config
from xlatrain.console import say
from xlatrain.credentials import masked
from xlatrain.engine.checkpoint_store import checkpoint_store
from xlatrain.engine.resume import NEVER
from xlatrain.engine.run import free_name, name_beside
from xlatrain.engine.run_folder import claimed_folder, held_folder
from xlatrain.errors import EXIT_DONE, EXIT_FAILED, EXIT_STOPPED, ConfigError, Fault, ReplicaError
from xlatrain.files import write_json
from xlatrain.words import counted


@dataclass(frozen=True)
class Act:
    """What is done with the command of a job, and with one that Hydra has composed. goes_on: of a job that was begun it
    does what is left."""

    check: Callable[[Sequence[str]], Checked]
    check_config: Callable[[Config, Sequence[str]], Checked]
    run: Callable[[Checked, str | None], dict[str, Any]]
    goes_on: bool


def run_sweep(verb: str, act: Act, command: list[str]) -> int:
    """Check a sweep, run its jobs, print a table of results. With options of Hydra's own its sweeper and launcher
    choose and start the jobs; else they are run here, in turn, as they were checked. Jobs that are done already are not
    run again, and one that was broken off goes on."""
    folders, _ = split_command(command)
    sweep = check_sweep(command, act.check)
    first, objective = sweep.first, sweep.first.sweep.objective
    if verb == "eval" and objective == "images_per_second":
        raise ConfigError(Fault("sweep.objective", "an evaluation does not measure images_per_second", "take top1"))
    broken: list[int] = []

    def run(overrides: list[str], checked: Callable[[], Checked]) -> float | None:
        """Returns the objective. A failure is told to a sweeper that learns from it; the basic one it would end."""
        (number,) = number_jobs(folder, [overrides], first, sweep.swept)
        say(f"\njob {number}: {' '.join(overrides)}")
        try:
            return act.run(checked(), f"{name}/{number}")[objective]
        except Exception as error:
            broken.append(number)
            _tell(error, folder / str(number), overrides)
            if isinstance(error, ReplicaError) and (error.exit_code > 128 or error.exit_code == EXIT_STOPPED):
                say(f"\nthe sweep ends in job {number}: the same command with run.name={name} goes on with it")
                raise SystemExit(error.exit_code) from None
            if sweep.listed:
                return None
            raise

    def job(composed: DictConfig) -> float | None:
        unmute()
        asked = [text for text in HydraConfig.get().overrides.task if text.partition("=")[0] != SWEEP]
        overrides = [*folders, *asked]
        return run(overrides, lambda: act.check_config(to_config(composed), overrides))

    with _sweep_folder(first, act.goes_on, len(sweep.jobs)) as (name, folder):
        if not sweep.arguments:
            number_jobs(folder, [checked.overrides for checked in sweep.jobs], first, sweep.swept)
            done = sum(summary_of(folder, job)["status"] == "done" for job in recorded_jobs(folder))
            before = f", {done} done before" if done else ""
            say(f"{counted(len(sweep.jobs), 'job')} in {folder}{before}")
        failed = ""
        if sweep.arguments:
            where = [f"hydra.sweep.dir={_quoted(folder)}", *search_path(folders)]
            failed = run_hydra(job, ["-m", *where, *sweep.arguments])
        for checked in [] if sweep.arguments else sweep.jobs:
            run(list(checked.overrides), lambda checked=checked: checked)
        if not (folder / JOBS).exists() or not any(folder.glob("*/")):
            shutil.rmtree(folder)
            raise ConfigError(Fault("hydra", failed or "the sweeper chose no job", "correct hydra.sweeper or launcher"))
        if failed:
            say(f"\nthe sweep ended early: {failed}")
        all_done = show_results(folder, recorded_jobs(folder), objective)
        return EXIT_DONE if all_done and not failed and not broken else EXIT_FAILED


@contextlib.contextmanager
def _sweep_folder(config: Config, goes_on: bool, jobs: int) -> Iterator[tuple[str, Path]]:
    """The name of a sweep and its folder, held: that of before where it is one to go on with, else a new one. Raises
    ConfigError."""
    root, name = config.run.root, config.run.name or free_name(config.run.root, "sweep")
    if config.run.resume == NEVER:
        name = name_beside(config, name)
    elif goes_on and (Path(root) / name / JOBS).exists():
        with held_folder(Path(root) / name) as folder:
            yield name, folder
        return
    for number in range(jobs if goes_on else 0):
        _refuse_checkpoints_of_another(config, f"{name}/{number}")
    with claimed_folder(root, name) as folder:
        yield name, folder


def _refuse_checkpoints_of_another(config: Config, name: str) -> None:
    """Where a sweep begins anew, what an earlier one of its name has left is kept aside: not so checkpoints that lie
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
    say(f"\n{report}")
    if not (folder / "summary.json").exists():
        folder.mkdir(parents=True, exist_ok=True)
        last = report.splitlines()[0 if isinstance(error, ConfigError) else -1]
        about = {"run": str(folder), "overrides": overrides}
        write_json(folder / "summary.json", masked({"status": "failed", "error": last, **about}))
