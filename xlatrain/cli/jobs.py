"""From a command's overrides to its jobs: one, or with -m the jobs of a Hydra multirun."""

from __future__ import annotations

import json
import logging
import os
import shutil
import sys
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.types import Quote, QuotedString
from omegaconf import DictConfig
from rich.table import Table

from xlatrain.cli.show import show_schedule
from xlatrain.cli.sweep import LESS_IS_BETTER, Checked, check_sweep
from xlatrain.cli.verbs import take_flags
from xlatrain.config.choices import CONF, search_path, split_command
from xlatrain.config.compose import compose_config, to_config
from xlatrain.config.override import reason, wrong_name
from xlatrain.config.schema import Config
from xlatrain.console import make_console, print_whole
from xlatrain.credentials import masked
from xlatrain.engine import run as engine
from xlatrain.engine.run import free_name
from xlatrain.engine.run_folder import claimed_folder
from xlatrain.errors import EXIT_DONE, EXIT_FAILED, ConfigError, Fault, ReplicaError
from xlatrain.files import write_json
from xlatrain.preflight.check import check, check_config, check_evaluation, check_evaluation_config

INFO = ("defaults", "defaults-tree", "config", "plugins", "searchpath", "all")  # of Hydra's --info


@dataclass(frozen=True)
class _Verb:
    """What is done with the overrides of a job, and with one that Hydra has composed."""

    check: Callable[[Sequence[str]], Checked]
    check_config: Callable[[Config, Sequence[str]], Checked]
    run: Callable[[Checked, str | None], dict[str, Any]]


_VERBS = {
    "train": _Verb(check, check_config, engine.train),
    "eval": _Verb(check_evaluation, check_evaluation_config, engine.evaluate),
}


def train(arguments: Sequence[str]) -> int:
    """`xlatrain train [-m] [overrides]`."""
    return run_jobs("train", arguments)


def evaluate(arguments: Sequence[str]) -> int:
    """`xlatrain eval [-m] weights=FILE [overrides]`."""
    return run_jobs("eval", arguments)


def run_jobs(verb: str, arguments: Sequence[str]) -> int:
    """Check every job, then run them. Returns the exit code; raises ConfigError before anything is started."""
    flags, overrides = take_flags(verb, arguments)
    if asked := {"--cfg", "--info"} & set(flags):
        return _show_composed([part for flag in sorted(asked) for part in (flag, flags[flag])], overrides)
    if "--multirun" in flags:
        return _sweep(verb, overrides)
    print_summary(_VERBS[verb].run(_VERBS[verb].check(overrides), None))
    return EXIT_DONE


def show(arguments: Sequence[str]) -> int:
    """`xlatrain show schedule [out=FILE] [overrides]`. Raises ConfigError."""
    if not arguments or arguments[0] != "schedule":
        raise ConfigError(Fault("show", " ".join(arguments[:1]) or "nothing to show", "write xlatrain show schedule"))
    flags, overrides = take_flags("show", arguments[1:])
    out = Path(flags.get("out", "schedule.png"))
    faults = _picture(out)
    try:
        run = check(overrides)
    except ConfigError as error:
        faults += error.faults
    if faults:
        raise ConfigError(*faults)
    show_schedule(run, out)
    return EXIT_DONE


def _picture(path: Path) -> list[Fault]:
    """Whether a picture can be written there."""
    if path.suffix not in (".png", ".svg", ".pdf"):
        return [Fault("out", f"{path} is no picture", "give out=FILE.png, .svg or .pdf")]
    if path.is_dir() or not path.absolute().parent.is_dir() or not os.access(path.absolute().parent, os.W_OK):
        return [Fault("out", f"{path} cannot be written", "name a file in a folder of yours")]
    return []


def _sweep(verb: str, overrides: list[str]) -> int:
    """Check a sweep, run its jobs, print a table of results. With options of Hydra's own its sweeper and launcher
    choose and start the jobs; else they are run here, in turn, as they were checked."""
    act, (folders, _) = _VERBS[verb], split_command(overrides)
    sweep = check_sweep(overrides, act.check)
    first, objective = sweep.first, sweep.first.sweep.objective
    if verb == "eval" and objective == "images_per_second":
        raise ConfigError(Fault("sweep.objective", "an evaluation does not measure images_per_second", "take top1"))
    name = first.run.name or free_name(first.run.root, "sweep")

    def run(number: int, job_overrides: list[str], checked: Callable[[], Checked]) -> float | None:
        """Returns the objective. A failure is told to a sweeper that learns from it; the basic one it would end."""
        sys.stderr.write(f"\njob {number}: {' '.join(job_overrides)}\n")
        try:
            return act.run(checked(), f"{name}/{number}")[objective]
        except Exception as error:
            _tell(error, folder / str(number), job_overrides)
            if isinstance(error, ReplicaError) and error.exit_code > 128:
                raise SystemExit(error.exit_code) from None
            if sweep.listed:
                return None
            raise

    def job(composed: DictConfig) -> float | None:
        _unmute()
        job_overrides = [*folders, *HydraConfig.get().overrides.task]
        return run(
            HydraConfig.get().job.num, job_overrides, lambda: act.check_config(to_config(composed), job_overrides)
        )

    with claimed_folder(first.run.root, name) as folder:
        failed = ""
        if sweep.settings:
            where = [f"hydra.sweep.dir={_quoted(folder)}", *search_path(overrides)]
            failed = _run_hydra(job, ["-m", *where, *split_command(overrides)[1], *sweep.settings])
        for number, checked in enumerate([] if sweep.settings else sweep.jobs):
            run(number, list(checked.overrides), lambda checked=checked: checked)
        if not any(folder.glob("*/")):
            shutil.rmtree(folder)
            raise ConfigError(Fault("hydra", failed or "the sweeper chose no job", "correct hydra.sweeper or launcher"))
        if failed:
            sys.stderr.write(f"\nthe sweep ended early: {failed}\n")
        return max(_print_results(folder, objective), EXIT_FAILED if failed else EXIT_DONE)


def _run_hydra(job: Callable[[DictConfig], float | None], arguments: list[str]) -> str:
    """Have Hydra run the jobs of a multirun, or whatever else its flags say. Returns why it ended early, in a line;
    empty if it did not."""
    argv, full = sys.argv, os.environ.get("HYDRA_FULL_ERROR")
    sys.argv, os.environ["HYDRA_FULL_ERROR"] = ["xlatrain", *arguments], "1"  # raise, do not print and exit
    try:
        hydra.main(version_base="1.3", config_path=str(CONF), config_name="config")(job)()
    except Exception as error:
        return f"{type(error).__name__}: {reason(error)}"
    finally:
        _unmute()
        sys.argv = argv
        del os.environ["HYDRA_FULL_ERROR"]
        if full is not None:
            os.environ["HYDRA_FULL_ERROR"] = full
    return ""


def _show_composed(question: list[str], overrides: list[str]) -> int:
    """Have Hydra print what it composes (--cfg), or how (--info). Raises ConfigError."""
    compose_config(overrides)
    answers = {"--cfg": ("job", "hydra", "all"), "--info": INFO}
    for flag, what in zip(question[::2], question[1::2], strict=True):
        if what not in answers[flag]:
            raise ConfigError(wrong_name(flag, f"there is no {what!r} to show", what, answers[flag], f"{flag} "))
    where = [*search_path(overrides), "hydra/hydra_logging=default", "hydra/job_logging=none"]  # it prints by a log
    handlers, level = list(logging.root.handlers), logging.root.level
    _unmute()
    failed = _run_hydra(lambda composed: None, [*question, *where, *split_command(overrides)[1]])
    logging.root.handlers[:], logging.root.level = handlers, level
    if failed:
        raise ConfigError(
            Fault(" ".join(question), failed, "see https://hydra.cc/docs/advanced/hydra-command-line-flags")
        )
    return EXIT_DONE


def _unmute() -> None:
    """Some sweepers, Optuna's among them, have Hydra switch off the loggers that are there, and warnings of all."""
    for name in logging.root.manager.loggerDict:
        if name.partition(".")[0] in ("xlatrain", "hydra"):
            logging.getLogger(name).disabled = False
    logging.root.setLevel(min(logging.root.level, logging.WARNING))


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


def print_summary(summary: dict[str, Any]) -> None:
    """What a run came to, as a small table."""
    table = Table(box=None, show_header=False, pad_edge=False)
    rows = {
        "top-1": "top1",
        "top-5": "top5",
        "loss": "loss",
        "images evaluated": "eval_examples",
        "steps": "steps",
        "replicas": "replicas",
        "images/s": "images_per_second",
        "host ms per step": "host_ms_per_step",
        "waiting for data": "data_wait_fraction",
        "compiles": "compiles",
        "seconds": "wall_seconds",
        "run": "run",
    }
    for label, key in rows.items():
        if key in summary:
            value = summary[key]
            table.add_row(label, _fraction(value) if key in ("top1", "top5", "loss") else _text(value))
    make_console().print(table)


def _text(value: Any) -> str:
    """A value of the summary; of several named ones each, as in "train 1, eval 1"."""
    return ", ".join(f"{k} {v}" for k, v in value.items()) if isinstance(value, dict) else str(value)


def _fraction(value: float | None) -> str:
    """Four digits; a value that was not finite is null in JSON."""
    return "nan" if value is None else f"{value:.4f}"


def _print_results(folder: Path, objective: str) -> int:
    """The table that ends a sweep, the best marked. Returns the exit code."""
    files = sorted(folder.glob("*/summary.json"), key=lambda p: int(p.parent.name))
    summaries = [json.loads(p.read_text()) for p in files]
    values = [s[objective] for s in summaries if s["status"] == "done" and s[objective] is not None]
    best = (min if objective in LESS_IS_BETTER else max)(values, default=None)
    common = set.intersection(*(set(s["overrides"]) for s in summaries)) if len(summaries) > 1 else set()
    table = Table(box=None, pad_edge=False)
    for heading in ("job", "overrides", "status", "top-1", "top-5", "loss", "images/s", "seconds"):
        table.add_column(heading, overflow="fold" if heading == "overrides" else "ellipsis")
    for s in summaries:
        own = " ".join(o for o in s["overrides"] if o not in common)
        results = []
        if s["status"] == "done":
            shown = {
                "top1": _fraction(s["top1"]),
                "top5": _fraction(s["top5"]),
                "loss": _fraction(s["loss"]),
                "images_per_second": str(s.get("images_per_second", "")),
                "wall_seconds": f"{s['wall_seconds']:.1f}",
            }
            if best is not None and s[objective] == best:
                shown[objective] += " best"
            results = list(shown.values())
        table.add_row(Path(s["run"]).name, own, s["status"], *results)
    console = make_console()
    console.print(f"\n{folder}" + (f": {' '.join(sorted(common))}" if common else ""))
    print_whole(table, console)
    for s in summaries:
        if s["status"] != "done":
            console.print(f"job {Path(s['run']).name}: {s.get('error', s['status'])}", soft_wrap=True)
    return EXIT_DONE if summaries and all(s["status"] == "done" for s in summaries) else EXIT_FAILED
