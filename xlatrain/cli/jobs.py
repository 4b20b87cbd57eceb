"""`xlatrain train` and `xlatrain eval`: from a command to its job, or with -m its jobs."""

from __future__ import annotations

from collections.abc import Sequence

from xlatrain.cli.by_hydra import show_composed
from xlatrain.cli.multirun import Act, run_sweep
from xlatrain.cli.tables import print_summary
from xlatrain.cli.verbs import take_flags
from xlatrain.engine import run
from xlatrain.errors import EXIT_DONE, ConfigError
from xlatrain.preflight.check import check, check_config, check_evaluation, check_evaluation_config, look_over
from xlatrain.preflight.checked import CheckedEvaluation, CheckedRun
from xlatrain.xla import fork_server

_ACTS = {
    "train": Act(check, check_config, run.train, True),
    "eval": Act(check_evaluation, check_evaluation_config, run.evaluate, False),
}


def train(arguments: Sequence[str]) -> int:
    """`xlatrain train [-m] [overrides]`."""
    return run_jobs("train", arguments)


def evaluate(arguments: Sequence[str]) -> int:
    """`xlatrain eval [-m] weights=FILE [overrides]`."""
    return run_jobs("eval", arguments)


def run_jobs(verb: str, arguments: Sequence[str]) -> int:
    """Check every job, then run them. Returns the exit code; raises ConfigError before anything is started."""
    act, (flags, command) = _ACTS[verb], take_flags(verb, arguments)
    if asked := {"--cfg", "--info"} & set(flags):
        return show_composed([part for flag in sorted(asked) for part in (flag, flags[flag])], command)
    if "--multirun" in flags:
        return run_sweep(verb, act, command)
    print_summary(act.run(_check(act, command), None))
    return EXIT_DONE


def _check(act: Act, command: Sequence[str]) -> CheckedRun | CheckedEvaluation:
    """Check a job where torch and timm are imported, or soon will be: in a process that is forked as those of replicas
    are. What is wrong with the options alone is told before."""
    if not fork_server.is_fit():
        return act.check(command)
    look_over(command, act.check_config)
    return fork_server.call(act.check, command, told=ConfigError)
