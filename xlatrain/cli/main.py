"""The command line: `xlatrain VERB [hydra overrides]`."""

from __future__ import annotations

import gc
import importlib
import os
import sys
from collections.abc import Sequence

from xlatrain.cli.verbs import HELP, VERBS, joined, take_flags
from xlatrain.console import make_console, wrapped
from xlatrain.errors import EXIT_CONFIG, EXIT_DONE, EXIT_FAILED, ConfigError, DataError, ReplicaError
from xlatrain.xla import fork_server
from xlatrain.xla.temporary import temporary_files

# What runs each verb, given the arguments after it; returns the exit code. Named, so that only one is imported.
FUNCTIONS = {
    "train": "xlatrain.cli.jobs:train",
    "eval": "xlatrain.cli.jobs:evaluate",
    "predict": "xlatrain.cli.predict:predict",
    "plan": "xlatrain.cli.plan:plan",
    "export": "xlatrain.cli.export:export",
    "shards": "xlatrain.cli.shards:shards",
    "data": "xlatrain.cli.data_bench:data",
    "show": "xlatrain.cli.show:show",
    "status": "xlatrain.cli.status:status",
    "report": "xlatrain.cli.report:report",
    "supervise": "xlatrain.cli.supervise:supervise",
    "launch": "xlatrain.cli.launch:launch",
    "doctor": "xlatrain.cli.doctor:doctor",
    "tune": "xlatrain.cli.tune:tune",
}

# Verbs that start replicas, whose processes are prepared while the command is checked.
_WITH_REPLICAS = ("train", "eval", "predict", "tune")

_WITHOUT_OPTIONS = ("shards", "status", "report", "supervise")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a verb; returns the exit code: 0 done, 1 failed, 2 the configuration is wrong, 75 stopped."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    verb, rest = (arguments[0], arguments[1:]) if arguments else ("--help", [])
    try:
        if verb in ("-h", "--help", "help"):
            return _overview()
        if verb in ("--version", "version"):
            return _version()
        if verb not in VERBS:
            return _unknown_verb(verb)
        # Parts of one's own are found where a command is given, as python -m would; last, so that they hide nothing.
        if os.getcwd() not in sys.path:
            sys.path.append(os.getcwd())
        with temporary_files():
            return _run(verb, joined(rest))
    except ConfigError as error:
        what = "configuration; nothing was started" if verb not in _WITHOUT_OPTIONS else "arguments"
        _say(f"xlatrain {verb}: {_count(len(error.faults))} in the {what}.")
        for fault in error.faults:
            _say(f"  {fault}")
        return EXIT_CONFIG
    except ReplicaError as error:
        sys.stderr.write(f"\n{error.report.rstrip()}\n")
        return error.exit_code
    except DataError as error:
        _say(f"xlatrain {verb}: {error}")
        return EXIT_FAILED
    except KeyboardInterrupt:
        return 130


def _run(verb: str, rest: list[str]) -> int:
    """A verb with its arguments. What it needs is imported here: `xlatrain --help` needs none of it."""
    if verb != "shards" and set(rest) & set(HELP.names):  # whose sub-commands have arguments, not options
        from xlatrain.cli.help import print_options

        return print_options(verb, _words(verb, rest))
    gc.set_threshold(100_000, 20, 20)  # what is imported stays: to look for garbage takes a seventh of a start
    if verb in _WITH_REPLICAS:
        fork_server.prepare("xlatrain.engine.ahead")
    module, _, function = FUNCTIONS[verb].partition(":")
    return getattr(importlib.import_module(module), function)(rest)


def _words(verb: str, arguments: Sequence[str]) -> list[str]:
    """What `--help` is asked about: the arguments that are no flags and no options."""
    _, others = take_flags(verb, arguments)
    return [a for a in others if a not in (*HELP.names, *VERBS[verb].subject.split()) and "=" not in a]


def _overview() -> int:
    console = make_console()
    lines = wrapped(
        "xlatrain trains image classifiers on TPU pods, and rehearses the real thing on a CPU.", console.width
    )
    lines += ["", "usage: xlatrain VERB [option=value ...]", ""]
    for name, verb in VERBS.items():
        lines += wrapped(f"  {name:9} {verb.what}", console.width, " " * 12)
    more = (
        "`xlatrain VERB --help` lists a verb's flags and options, `xlatrain train --help optimizer` those of a group "
        "or with a word; -m sweeps: xlatrain train -m optimizer=sgd,lars"
    )
    for line in [*lines, "", *wrapped(more, console.width)]:
        console.print(line, soft_wrap=True)
    return EXIT_DONE


def _version() -> int:
    from xlatrain.engine.provenance import versions

    make_console().print(", ".join(f"{name} {number}" for name, number in versions().items()), soft_wrap=True)
    return EXIT_DONE


def _unknown_verb(verb: str) -> int:
    import difflib

    near = difflib.get_close_matches(verb, VERBS, n=1)
    hint = f"did you mean `xlatrain {near[0]}`?" if near else f"the verbs are {', '.join(VERBS)}"
    _say(f"xlatrain has no verb {verb!r}: {hint}")
    return EXIT_CONFIG


def _count(faults: int) -> str:
    return "one fault" if faults == 1 else f"{faults} faults"


def _say(text: str) -> None:
    sys.stderr.write(text + "\n")
