"""Overrides one by one: what each says, which option it is of, and whether it is of a kind that a job can have; and
the faults of names that are not there, with the nearest right one."""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
import shlex
from collections.abc import Iterator, Sequence
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException

from xlatrain.config.choices import groups, is_own_group, split_command
from xlatrain.config.option import options
from xlatrain.config.schema import VARIANTS, Config
from xlatrain.config.targets import OWN
from xlatrain.errors import ConfigError, Fault

_ARGUMENTS = tuple(f"{group}.kwargs" for group in OWN)  # what is under them is somebody else's: timm's, or one's own
SWEEP = "sweep"  # the group of what is swept
# What runs here already are, in Hydra's words, and what says it.
_OUR_OWN = {
    "hydra.run.dir": "a run's folder is run.root/run.name",
    "hydra.sweep.dir": "a sweep's folder is run.root/run.name",
    "hydra.sweep.subdir": "the jobs of a sweep are its folder's 0, 1, 2, ...",
    "hydra.output_subdir": "config.yaml lies in the run's folder",
    "hydra.job.chdir": "a run stays where it was started, and writes to run.root/run.name",
    "hydra.searchpath": "folders of your own are named by --config-dir DIR",
}


def _quoted(key: str, value: str) -> str:
    """An override with its value quoted for Hydra, and all of it for a shell."""
    word = f"{key}='" + value.replace("'", "\\'") + "'"
    return shlex.quote(word) if set(word) & set("$`\"\\!") else f'"{word}"'


def parse_override(text: str) -> Override:
    """An override as Hydra reads it. Raises ConfigError."""
    if text.startswith("-"):
        cure = "`xlatrain VERB --help` lists the flags; options are key=value"
        raise ConfigError(Fault(text, "there is no such flag", cure))
    parser, (key, _, value) = OverridesParser.create(), text.partition("=")
    try:
        override = parser.parse_override(text)
    except HydraException as error:
        cure = "write key=value, as in train.seed=1"
        with contextlib.suppress(HydraException):
            parser.parse_override(f"{key}=1")  # the key is sound
            cure = f"quote the value: {_quoted(key, value)}" if value else cure
        raise ConfigError(Fault(text, reason(error), cure)) from None
    if not override.key_or_group:
        raise ConfigError(Fault(text, "names no option", "write key=value, as in train.seed=1"))
    return override


def given_keys(overrides: Sequence[str]) -> set[str]:
    """The options that overrides name. A choice of a group names no more than itself, as in model.name: data=imagenet
    says where images come from, not how weights were trained. What does not parse is left out."""
    keys: set[str] = set()
    for text in overrides:
        with contextlib.suppress(ConfigError):
            override = parse_override(text)
            key, value = override.key_or_group, override.value()
            keys |= set(_leaves(key, value)) if isinstance(value, dict) else {key, f"{key}.name"}
    return keys


def _leaves(key: str, value: Any) -> Iterator[str]:
    """The dotted keys of a dictionary's values."""
    if not isinstance(value, dict):
        yield key
    for name, content in value.items() if isinstance(value, dict) else ():
        yield from _leaves(f"{key}.{name}", content)


def option_keys() -> list[str]:
    """Every dotted key that an override may name."""
    keys = [key for key, _ in options(Config)]
    for group, variants in VARIANTS.items():
        keys += [f"{group}.{f.name}" for v in variants.values() for f in dataclasses.fields(v) if f.metadata]
    return sorted(set(keys))


def arguments_key(key: str) -> str | None:
    """Of an argument for somebody else's function, as model.kwargs.act_layer, the option that it is under."""
    return next((owner for owner in _ARGUMENTS if key == owner or key.startswith(f"{owner}.")), None)


def name_each(owner: str) -> str:
    """The cure where arguments are given all at once."""
    return f"name each argument, as in +{owner}.{'act_layer=relu' if owner == 'model.kwargs' else 'NAME=value'}"


def check_kind(command: Sequence[str]) -> None:
    """A job has one value for each of its options; none can be added or deleted, but for what kwargs pass on, and for
    groups of one's own. Raises ConfigError."""
    for text in split_command(command)[1]:
        override = parse_override(text)
        key = override.key_or_group
        if override.is_sweep_override():
            raise ConfigError(Fault(text, "several values make a sweep", "add -m, or give one value"))
        if key == SWEEP and override.value() != "none":
            raise ConfigError(Fault(text, "is a sweep, and this is a single run", "add -m, or leave it out"))
        if override.is_hydra_override():
            cure = f"leave it out: {_OUR_OWN[key]}" if key in _OUR_OWN else "add -m, or leave it out"
            raise ConfigError(Fault(text, "is of Hydra's sweeps, and this is a single run", cure))
        if override.package is not None:
            raise ConfigError(Fault(text, "a choice has its place", f"write {key}=..., without @{override.package}"))
        owner = arguments_key(key)
        if (override.is_add() or override.is_delete()) and (owner is None or key == owner):
            if override.is_add() and is_own_group(key, command):
                continue
            what = "added" if override.is_add() else "deleted"
            cure = f"write {key}=value" if key in {*option_keys(), *groups(command)} else no_such(key).cure
            if owner:
                cure = name_each(owner)
            elif (group := key.partition(".")[0]) in OWN and key not in option_keys():
                cure += f"; arguments of {group}._target_ go as +{group}.kwargs.NAME=value"
            raise ConfigError(Fault(text, f"options cannot be {what}", cure))


def check_hydra(hydra: Sequence[str]) -> None:
    """See that overrides of Hydra's own are none that a sweep's folder here depends on. Raises ConfigError."""
    for text in hydra:
        if (key := parse_override(text).key_or_group) in _OUR_OWN:
            raise ConfigError(Fault(text, "has no effect here", f"leave it out: {_OUR_OWN[key]}"))


def no_such(key: str, command: Sequence[str] = ()) -> Fault:
    """The fault of an option that is not there."""
    return wrong_name(key, "there is no such option", key, [*option_keys(), *groups(command)], "")


def wrong_name(key: str, problem: str, found: str, allowed: Sequence[str], prefix: str) -> Fault:
    """A fault whose cure is the nearest right name, or all of them where they are few."""
    near = difflib.get_close_matches(found, allowed, n=1, cutoff=0.5)
    few = len(allowed) <= 12
    listed = f"one of {', '.join(allowed)}" if few else "`xlatrain train --help` lists them all"
    if near:
        return Fault(key, problem, f"did you mean {prefix}{near[0]}? ({listed})")
    return Fault(key, problem, f"take {listed}" if few else listed)


def reason(error: BaseException) -> str:
    """Why something does not compose, in a line: Hydra says where and keeps the reason as the cause."""
    return str(error.__cause__ or error).strip().splitlines()[0]
