"""The command line: `xlatrain VERB [hydra overrides]`."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from xlatrain.errors import EXIT_CONFIG, EXIT_DONE, ConfigError, ReplicaError
from xlatrain.telemetry.console import make_console

VERBS = {
    "train": "train a model: xlatrain train model=efficientnet_b0 data=digits train.duration=5ep",
    "eval": "evaluate saved weights: xlatrain eval weights=runs/NAME/weights.safetensors",
    "plan": "compile a run for a TPU pod, without one: xlatrain plan model=efficientnet_b2 cluster=tpu_v3_1024 ...",
    "shards": "write, index and check shards: xlatrain shards from-folder SRC DST",
    "data": "measure the input pipeline alone: xlatrain data bench data=imagenet data.root=... [cluster=tpu_v3_8]",
    "show": "draw a run's learning rates: xlatrain show schedule [schedule=onecycle ...] [out=schedule.png]",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a verb; returns the exit code: 0 done, 1 failed, 2 the configuration is wrong."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    verb, rest = (arguments[0], arguments[1:]) if arguments else ("--help", [])
    try:
        if verb in ("-h", "--help", "help"):
            return _overview()
        if verb not in VERBS:
            return _unknown_verb(verb)
        if verb == "shards":
            from xlatrain.pack.verbs import shards

            return shards(rest)
        if "-h" in rest or "--help" in rest:
            from xlatrain.help import print_options

            return print_options(verb, VERBS[verb])
        if verb == "plan":
            from xlatrain.plans import plan

            return plan(rest)
        if verb == "data":
            from xlatrain.input_bench import data

            return data(rest)
        from xlatrain.jobs import run_jobs, show

        return show(rest) if verb == "show" else run_jobs(verb, rest)
    except ConfigError as error:
        what = "arguments" if verb == "shards" else "configuration; nothing was started"
        _say(f"xlatrain {verb}: {_count(len(error.faults))} in the {what}.")
        for fault in error.faults:
            _say(f"  {fault}")
        return EXIT_CONFIG
    except ReplicaError as error:
        sys.stderr.write(f"\n{error.report.rstrip()}\n")
        return error.exit_code
    except KeyboardInterrupt:
        return 130


def _overview() -> int:
    console = make_console()
    console.print("xlatrain trains image classifiers on TPU pods, and rehearses the real thing on a CPU.\n")
    console.print("usage: xlatrain VERB [-m] [option=value ...]\n")
    for verb, what in VERBS.items():
        console.print(f"  {verb:8} {what}")
    console.print(
        "\n`xlatrain train --help` lists every option; -m sweeps: xlatrain train -m optimizer=sgd,lars", soft_wrap=True
    )
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
