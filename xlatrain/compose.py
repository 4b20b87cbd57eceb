"""Hydra overrides to a typed Config; what does not compose is named fault by fault, with the nearest right spelling."""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from xlatrain.config import VARIANTS, Config
from xlatrain.errors import ConfigError, Fault
from xlatrain.schema import options

_PACKAGE = Path(__file__).resolve().parent
# In a wheel conf/ travels inside the package; in a checkout it lies beside it.
CONF = _PACKAGE / "conf" if (_PACKAGE / "conf").is_dir() else _PACKAGE.parent / "conf"

# An AssertionError: an option under one that is null.
_ERRORS = (HydraException, OmegaConfBaseException, ValueError, TypeError, AssertionError)


def register_schemas() -> None:
    """Make the dataclasses of config.py known to Hydra: `schema`, and schema/<group>/<choice>."""
    store = ConfigStore.instance()
    store.store(name="schema", node=Config)
    for group, variants in VARIANTS.items():
        for name, variant in variants.items():
            store.store(group=f"schema/{group}", name=name, node=variant)


def groups() -> dict[str, list[str]]:
    """The config groups and their choices, as found in conf/."""
    return {d.name: sorted(f.stem for f in d.glob("*.yaml")) for d in sorted(CONF.iterdir()) if d.is_dir()}


def compose_config(overrides: Sequence[str], fill: bool = False) -> tuple[Config, DictConfig]:
    """Compose one job: the typed configuration, and the same as OmegaConf. Raises ConfigError with all faults; its
    `usable` holds the overrides that are not at fault. fill: give options that have no value an empty one, so that the
    rest can be checked."""
    try:
        _check_added(overrides)
        composed = _compose(overrides)
        for key in OmegaConf.missing_keys(composed) if fill else ():
            OmegaConf.update(composed, key, "")
        return to_config(composed), composed
    except (*_ERRORS, ConfigError) as error:
        _compose([])  # what fails without any override is a fault of conf/ itself: let it be seen whole
        faults, usable = _diagnose(overrides)
        if not faults:
            faults = (
                list(error.faults)
                if isinstance(error, ConfigError)
                else [Fault("configuration", _reason(error), "correct it")]
            )
        raise ConfigError(*faults, usable=usable) from None


def to_config(composed: DictConfig) -> Config:
    """An OmegaConf configuration as dataclasses. Raises ConfigError naming the options that have no value."""
    missing = [k for k in sorted(OmegaConf.missing_keys(composed)) if not k.startswith("hydra")]
    if missing:
        raise ConfigError(*(Fault(key, "has no value", f"give {key}=...") for key in missing))
    return OmegaConf.to_object(composed)


def sweep_jobs(overrides: Sequence[str]) -> list[list[str]]:
    """The overrides of each job of a multirun: every combination of the choices. Raises ConfigError."""
    choices = []
    for text in overrides:
        override = _parse(text)
        if not override.is_sweep_override():
            choices.append([text])
            continue
        try:
            choices.append([f"{override.get_key_element()}={v}" for v in override.sweep_string_iterator()])
        except HydraException as error:
            raise ConfigError(Fault(text, _reason(error), "list the values, as in train.seed=0,1")) from None
    return [list(job) for job in itertools.product(*choices)]


def given_keys(overrides: Sequence[str]) -> set[str]:
    """The options that overrides name. A choice of a group names no more than itself, as in model.name: data=imagenet
    says where images come from, not how weights were trained. What does not parse is left out."""
    keys: set[str] = set()
    for text in overrides:
        with contextlib.suppress(ConfigError):
            override = _parse(text)
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


def _compose(overrides: Sequence[str]) -> DictConfig:
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return compose("config", list(overrides))


def _parse(text: str) -> Override:
    if text.startswith("-"):
        cure = "`xlatrain VERB --help` lists the flags; options are key=value"
        raise ConfigError(Fault(text, "there is no such flag", cure))
    try:
        return OverridesParser.create().parse_override(text)
    except HydraException as error:
        key, _, value = text.partition("=")
        cure = f"quote the value: \"{key}='{value}'\"" if value else "write key=value, as in train.seed=1"
        raise ConfigError(Fault(text, str(error).strip().splitlines()[0], cure)) from None


def _check_added(overrides: Sequence[str]) -> None:
    """Options all exist; none can be added or deleted, but for what model.kwargs passes on."""
    for text in overrides:
        override = _parse(text)
        key = override.key_or_group
        if override.is_sweep_override():
            raise ConfigError(Fault(text, "several values make a sweep", "add -m, or give one value"))
        if (override.is_add() or override.is_delete()) and not key.startswith("model.kwargs."):
            raise ConfigError(
                Fault(text, "options cannot be added or deleted", f"write {key}=value for one that exists")
            )


def _diagnose(overrides: Sequence[str]) -> tuple[list[Fault], list[str]]:
    """Find which overrides are at fault, each on its own: first the choices of groups, then values under them. Returns
    the faults, and the overrides that are sound."""
    faults: list[Fault] = []
    known, choices, values = groups(), [], []
    for text in overrides:
        try:
            _check_added([text])
            override = _parse(text)
        except ConfigError as error:
            faults += error.faults
            continue
        key = override.key_or_group
        if key in known and not isinstance(override.value(), dict):
            if str(override.value()) in known[key]:
                choices.append(text)
            else:
                faults.append(
                    _wrong(
                        key, f"there is no choice {override.value()!r}", str(override.value()), known[key], f"{key}="
                    )
                )
        else:
            values.append((key, text))
    sound = list(choices)
    for key, text in values:
        try:
            _compose([*choices, text])
            sound.append(text)
        except _ERRORS as error:
            faults.append(_value_fault(key, text, error))
    return faults, sound


def _value_fault(key: str, text: str, error: Exception) -> Fault:
    keys, group = option_keys(), key.partition(".")[0]
    if key not in keys:
        if key.startswith("model.kwargs."):
            return Fault(text, "an argument for timm is added", f"write +{text}")
        return _wrong(key, "there is no such option", key, [*keys, *groups()], "")
    if isinstance(error, AssertionError):
        owner = key.rpartition(".")[0]
        return Fault(key, f"there is no {owner} in what was chosen", f"take a {group} that has one")
    if "Could not override" in str(error):
        having = [
            n
            for n, v in VARIANTS.get(group, {}).items()
            if key.partition(".")[2] in {f.name for f in dataclasses.fields(v)}
        ]
        return Fault(
            key, f"is no option of the {group} chosen", f"{' or '.join(f'{group}={n}' for n in having)} has it"
        )
    return Fault(text, _reason(error), f"see {key} in `xlatrain train --help`")


def _wrong(key: str, problem: str, found: str, allowed: Sequence[str], prefix: str) -> Fault:
    near = difflib.get_close_matches(found, allowed, n=1, cutoff=0.5)
    listed = f"one of {', '.join(allowed)}" if len(allowed) <= 12 else "`xlatrain train --help` lists them all"
    cure = f"did you mean {prefix}{near[0]}? ({listed})" if near else f"take {listed}"
    return Fault(key, problem, cure)


def _reason(error: BaseException) -> str:
    """Why something does not compose, in a line: Hydra says where and keeps the reason as the cause."""
    return str(error.__cause__ or error).strip().splitlines()[0]
