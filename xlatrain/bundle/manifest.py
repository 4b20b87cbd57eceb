"""What a bundle says of itself: manifest.json, as types."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from xlatrain.checkpoint.weight import Weight

FORMAT, VERSION = "xlatrain bundle", 1
MANIFEST, SEEDS = "manifest.json", "seeds"

# Where an argument comes from. Any other word is the name of what the train step carries.
STATE, TABLE, CONSTANT, BATCH, SEED = "state", "table", "constant", "batch", "seed"
IN_FILE = (STATE, TABLE, CONSTANT)  # first values are in the step's tensors


@dataclass(frozen=True)
class Argument:
    """What a program takes at a place. source: "state", in the file before the first step, then the result of this
    name; "table" and "constant", in the file, the same at every step; "batch", a replica's share of a batch; "seed", of
    the replica's own in the file; or, for an evaluation, what the train step carries under that name."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    source: str


@dataclass(frozen=True)
class Result:
    """What a step returns under a name: a result of the program, by its index, or one of its arguments unchanged."""

    name: str
    result: int | None = None
    argument: str | None = None


@dataclass(frozen=True)
class Step:
    """program, tensors: names of files; None where no tensors are given. arguments: in the program's order. aliases:
    index of a result to that of the argument whose buffer it is written over: what was in it is gone. values: the names
    of the numbers that the result `of` has, in order."""

    program: str
    tensors: str | None
    arguments: tuple[Argument, ...]
    results: tuple[Result, ...]
    aliases: dict[int, int]
    of: str | None = None
    values: tuple[str, ...] = ()


@dataclass(frozen=True)
class Manifest:
    """steps: by name, "train" and "eval". total_steps: of the run, for which the tables have learning rates.
    local_batch: images a step of each replica, by step. weights: how the model's tensors lie in the state. facts: of
    the weights, as a weights file has them. options: of the run, those that decided the programs and tables. stablehlo:
    the oldest version that reads the programs. files: the SHA-256 of each but the manifest, by name."""

    platform: str
    replicas: int
    image_size: int
    total_steps: int
    local_batch: dict[str, int]
    steps: dict[str, Step]
    weights: tuple[Weight, ...]
    facts: dict[str, Any]
    options: dict[str, Any]
    stablehlo: str
    versions: dict[str, str]
    files: dict[str, str]

    def as_dict(self) -> dict[str, Any]:
        """As manifest.json has it."""
        return {"format": FORMAT, "version": VERSION, **asdict(self)}

    @classmethod
    def of(cls, content: Mapping[str, Any]) -> Manifest:
        """From manifest.json. Raises ValueError, TypeError or KeyError when it is not what as_dict writes."""
        parts = {name: value for name, value in content.items() if name not in ("format", "version")}
        parts["steps"] = {name: _step(step) for name, step in content["steps"].items()}
        parts["weights"] = tuple(Weight(**_tuples(w, "shape", "axes")) for w in content["weights"])
        return cls(**parts)


def _step(content: Mapping[str, Any]) -> Step:
    return Step(
        program=content["program"],
        tensors=content["tensors"],
        arguments=tuple(Argument(**_tuples(a, "shape")) for a in content["arguments"]),
        results=tuple(Result(**r) for r in content["results"]),
        aliases={int(result): argument for result, argument in content["aliases"].items()},
        of=content["of"],
        values=tuple(content["values"]),
    )


def _tuples(content: Mapping[str, Any], *names: str) -> dict[str, Any]:
    return {k: tuple(v) if k in names and v is not None else v for k, v in content.items()}
