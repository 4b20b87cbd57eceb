"""The verbs: what each does, the flags that it has beside the options, and what it takes where a command is silent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from xlatrain.config.comparison import quote_comparisons
from xlatrain.errors import ConfigError, Fault
from xlatrain.planning.defaults import DEFAULTS


@dataclass(frozen=True)
class Flag:
    """names: as they are typed, the last one the flag's own; one that takes a value ends with `=`. value: what stands
    there in the list."""

    names: tuple[str, ...]
    help: str
    value: str = ""

    @property
    def shown(self) -> str:
        return ", ".join(self.names) + self.value


HELP = Flag(("-h", "--help"), "this list; with words, only the groups and options that have them: --help optimizer")
CONFIG_DIR = Flag(
    ("-cd", "--config-dir"), "choices of your own: a folder of GROUP/CHOICE.yaml, used as GROUP=CHOICE", " DIR"
)
_SWEEP = Flag(("-m", "--multirun"), "options with several values make a sweep, one job for each combination")
_COMPOSED = (
    Flag(("-c", "--cfg="), "print the options as Hydra composes them, and end", "job"),
    Flag(("-i", "--info="), "print how Hydra composes them, and end: defaults, searchpath, ...", "defaults"),
)
_JSON = Flag(("--json",), "figures to standard output as JSON, no table")


@dataclass(frozen=True)
class Verb:
    """what: a line on it, with an example; flags: its own; subject: the word that follows it, or the words of which one
    does; defaults: the options that it sets where a command leaves them open; options: whether it takes any."""

    what: str
    flags: tuple[Flag, ...] = ()
    subject: str = ""
    defaults: Mapping[str, str] = field(default_factory=dict)
    options: bool = True


VERBS = {
    "train": Verb(
        "train a model: xlatrain train model=efficientnet_b0 data=digits train.duration=5ep",
        (_SWEEP, *_COMPOSED),
    ),
    "eval": Verb(
        "evaluate saved weights: xlatrain eval weights=runs/NAME/weights.safetensors",
        (_SWEEP, *_COMPOSED),
    ),
    "predict": Verb(
        "classes of images: xlatrain predict weights=runs/NAME/weights.safetensors out=found.csv PATH ...; a PATH is "
        "an image, a folder, a shard (.tar) or an address",
        (Flag(("out=",), "the new file that is written: .csv, .jsonl or .parquet", "FILE"),),
    ),
    "plan": Verb(
        "compile a run for a TPU pod, without one: xlatrain plan model=efficientnet_b2 cluster=tpu_v3_1024 ...",
        (
            _SWEEP,
            _JSON,
            Flag(("--check",), "every TPU recipe for its cluster: do both steps compile and fit?"),
            Flag(("--small",), "with --check: a small model on v3-8 and v5litepod-8 instead, in a minute"),
        ),
        defaults=DEFAULTS,
    ),
    "export": Verb(
        "a run's steps as programs for JAX: xlatrain export step out=bundle [overrides]; its weights for others: "
        "xlatrain export timm, onnx, torch or stablehlo weights=runs/NAME/weights.safetensors out=PATH",
        (
            Flag(("out=",), "the file or folder that is written, new; of steps a folder, new or empty", "PATH"),
            Flag(("batch=",), "stablehlo: images that the program takes at once; default: 1", "N"),
        ),
        subject="step timm onnx torch stablehlo",
    ),
    "shards": Verb("write, index and check shards: xlatrain shards from-folder SRC DST"),
    "data": Verb(
        "measure the input pipeline alone: xlatrain data bench data=imagenet data.root=... [cluster=tpu_v3_8]",
        (
            _JSON,
            Flag(("seconds=",), "how long each part is measured; default: 5", "SECONDS"),
            Flag(("need=",), "what a host of the cluster takes; default: by a plan of the run", "IMAGES_PER_SECOND"),
        ),
        subject="bench",
    ),
    "show": Verb(
        "draw a run's learning rates: xlatrain show schedule [schedule=onecycle ...] [out=schedule.png]; list the "
        "published runs that are recipes: xlatrain show recipes [WORD ...] [out=recipes.md]",
        (
            Flag(
                ("out=",),
                "schedule: where it is drawn, .png, .svg or .pdf; default: schedule.png; recipes: a file of Markdown",
                "FILE",
            ),
        ),
        subject="schedule recipes",
    ),
    "tune": Verb(
        "find a learning rate, or the largest batch that fits: xlatrain tune lr ..., xlatrain tune batch ...",
        (
            _JSON,
            Flag(("steps=",), "lr: how many, with as many rates; default: 200", "N"),
            Flag(("from=",), "lr: the first rate; default: 1e-6, for lars 1e-4", "RATE"),
            Flag(("to=",), "lr: the last rate; default: 10, for lars 1000", "RATE"),
            Flag(("out=",), "lr: where it is drawn, .png, .svg or .pdf; default: lr.png", "FILE"),
        ),
        subject="lr batch",
    ),
    "status": Verb(
        "how a run is, while it goes on or after: xlatrain status runs/NAME",
        (Flag(("--json",), "the same as JSON"),),
        options=False,
    ),
    "report": Verb(
        "what runs came to, as a page: xlatrain report runs/NAME [more runs, or a sweep] [out=report.html]",
        (
            Flag(("out=",), "the page, .html; default: report.html", "FILE"),
            Flag(("run.root=",), "where runs are looked for that are given by name; default: runs", "FOLDER"),
        ),
        options=False,
    ),
    "supervise": Verb(
        "start a run again when it was stopped or crashed: xlatrain supervise -- train run.name=NAME ...",
        (
            Flag(("--tries=",), "starts, all in all; default: 20", "N"),
            Flag(("--wait=",), "before the second start; doubles where a start gets no further; default: 5", "SECONDS"),
        ),
        options=False,
    ),
    "launch": Verb(
        "a run on machines of Google Cloud: xlatrain launch --until-done cluster=tpu_v4_32 launch.name=... ..., or one "
        "verb of create, setup, run, status, logs, ssh, stop, delete; manifest writes a JobSet for Kubernetes instead",
        (
            Flag(("--until-done",), "create, set up, run; again where machines are taken away; delete when it is done"),
            Flag(("--dry-run",), "print the commands, and do nothing"),
            Flag(("-f", "--follow"), "logs: go on as they grow"),
            Flag(("--worker=",), "logs, ssh: of which machine; default: all, and 0 for ssh", "N"),
        ),
    ),
    "doctor": Verb(
        "look at this machine, in seconds: xlatrain doctor [cluster=tpu_v3_8 data=imagenet data.root=... ...]",
        (
            Flag(("--json",), "findings to standard output as JSON"),
            Flag(("--clear-cache",), "remove the programs that runs and plans keep in the user's cache, and end"),
        ),
    ),
}


# Flags of Hydra's that take the word after them.
_WITH_VALUE = {
    "-cd": "--config-dir",
    "--config-dir": "--config-dir",
    "-c": "--cfg",
    "--cfg": "--cfg",
    "-i": "--info",
    "--info": "--info",
}


def joined(arguments: Sequence[str]) -> list[str]:
    """The arguments with each flag and the word that is its value as one, `--config-dir=DIR`, and comparisons quoted.
    Raises ConfigError."""
    found, words = [], iter(arguments)
    for word in words:
        if word in _WITH_VALUE:
            if (value := next(words, None)) is None:
                raise ConfigError(Fault(word, "nothing follows it", f"write {word} and what it is for"))
            word = f"{_WITH_VALUE[word]}={value}"
        found.append(word)
    return quote_comparisons(found)


def take_flags(verb: str, arguments: Sequence[str]) -> tuple[dict[str, str], list[str]]:
    """The flags among a verb's arguments, by their own names, each with its value ("" where it takes none; of two the
    last), and the other arguments."""
    own = {name: flag.names[-1] for flag in VERBS[verb].flags for name in flag.names}
    found: dict[str, str] = {}
    others: list[str] = []
    for argument in arguments:
        key, equals, value = argument.partition("=")
        if key + equals in own:
            found[own[key + equals].rstrip("=")] = value
        else:
            others.append(argument)
    return found, others
