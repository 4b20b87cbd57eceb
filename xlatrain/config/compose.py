"""Hydra overrides to a typed Config; what does not compose is named fault by fault, with the nearest right spelling."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import difflib
import functools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from xlatrain.config.option import options
from xlatrain.config.schema import VARIANTS, Config
from xlatrain.errors import ConfigError, Fault

_PACKAGE = Path(__file__).resolve().parent.parent
# In a wheel conf/ travels inside the package; in a checkout it lies beside it.
CONF = _PACKAGE / "conf" if (_PACKAGE / "conf").is_dir() else _PACKAGE.parent / "conf"

# An AssertionError: an option under one that is null.
_ERRORS = (HydraException, OmegaConfBaseException, ValueError, TypeError, AssertionError)
_ARGUMENTS = "model.kwargs."  # what is under it is timm's


def register_schemas() -> None:
    """Make the dataclasses of schema.py known to Hydra: `schema`, and schema/<group>/<choice>. Once, since reading them
    takes longer than to compose what nobody changed."""
    store = ConfigStore.instance()
    known = store.repo.get("schema.yaml")
    if known and OmegaConf.get_type(known.node) is Config:
        return
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
        _check_kind(overrides)
        composed = _compose(overrides)
        for key in OmegaConf.missing_keys(composed) if fill else ():
            OmegaConf.update(composed, key, "")
        return to_config(composed), composed
    except (*_ERRORS, ConfigError) as error:
        _compose([])  # what fails without any override is a fault of conf/ itself: let it be seen whole
        faults, usable = _diagnose(overrides)
        if not faults:
            faults = list(error.faults) if isinstance(error, ConfigError) else [_together(overrides, error)]
        raise ConfigError(*faults, usable=usable) from None


def to_config(composed: DictConfig) -> Config:
    """An OmegaConf configuration as dataclasses. Raises ConfigError naming the options that have no value, and those
    that are in no schema: `++key=value` adds what it likes."""
    missing = [k for k in sorted(OmegaConf.missing_keys(composed)) if not k.startswith("hydra")]
    faults = [Fault(key, "has no value", f"give {key}=...") for key in missing] + _unknown(composed)
    if faults:
        raise ConfigError(*faults)
    return OmegaConf.to_object(composed)


def _unknown(node: DictConfig, prefix: str = "") -> list[Fault]:
    """Keys of a composed configuration that its schema does not have."""
    schema, faults = OmegaConf.get_type(node), []
    if not dataclasses.is_dataclass(schema):
        return []
    known = {f.name for f in dataclasses.fields(schema)}
    for key in node:
        if key not in known:
            faults.append(_no_such(f"{prefix}{key}"))
        elif not OmegaConf.is_missing(node, key) and isinstance(child := node[key], DictConfig):
            faults += _unknown(child, f"{prefix}{key}.")
    return faults


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


def compose_hydra(overrides: Sequence[str]) -> DictConfig:
    """Hydra's own configuration, of sweepers and launchers. Raises what Hydra raises."""
    return _compose_all(overrides, hydra=True).hydra


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
            cure = f"quote the value: \"{key}='{value}'\"" if value else cure
        raise ConfigError(Fault(text, reason(error), cure)) from None
    if not override.key_or_group:
        raise ConfigError(Fault(text, "names no option", "write key=value, as in train.seed=1"))
    return override


def _compose(overrides: Sequence[str]) -> DictConfig:
    """What overrides come to: the groups as Hydra composes them, and values set in a copy of that, as Hydra itself does
    it in the end. Composing takes 100 ms, setting 5: a sweep, and who looks for a fault, asks for the same groups again
    and again."""
    parsed = OverridesParser.create().parse_overrides(list(overrides))
    values = [override for override in parsed if _is_value(override)]
    composed = copy.deepcopy(_compose_groups(tuple(o.input_line for o in parsed if not _is_value(o))))
    ConfigLoaderImpl._apply_overrides_to_config(values, composed)
    return composed


def _is_value(override: Override) -> bool:
    """Whether an override surely sets an option, and chooses nothing: of the rest Hydra knows best."""
    key = override.key_or_group
    plain = key != "" and override.package is None and "/" not in key and not override.is_sweep_override()
    return plain and not override.is_hydra_override() and (key not in groups() or isinstance(override.value(), dict))


@functools.lru_cache(maxsize=32)
def _compose_groups(overrides: tuple[str, ...]) -> DictConfig:
    """Not to be changed: the next caller gets it too."""
    return _compose_all(overrides, hydra=False)


def _compose_all(overrides: Sequence[str], hydra: bool) -> DictConfig:
    """All by Hydra. hydra: with its own configuration."""
    register_schemas()
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return compose("config", list(overrides), return_hydra_config=hydra)


def _check_kind(overrides: Sequence[str]) -> None:
    """A job has one value for each of its options; none can be added or deleted, but for what model.kwargs passes
    on. Raises ConfigError."""
    for text in overrides:
        override = parse_override(text)
        key = override.key_or_group
        if override.is_sweep_override():
            raise ConfigError(Fault(text, "several values make a sweep", "add -m, or give one value"))
        if override.is_hydra_override():
            raise ConfigError(Fault(text, "is of Hydra's sweeps, and this is a single run", "add -m, or leave it out"))
        if override.package is not None:
            raise ConfigError(Fault(text, "a choice has its place", f"write {key}=..., without @{override.package}"))
        if (override.is_add() or override.is_delete()) and not key.startswith(_ARGUMENTS):
            what = "added" if override.is_add() else "deleted"
            cure = f"write {key}=value" if key in {*option_keys(), *groups()} else _no_such(key).cure
            if key == _ARGUMENTS.rstrip("."):
                cure = f"name each argument, as in +{_ARGUMENTS}act_layer=relu"
            raise ConfigError(Fault(text, f"options cannot be {what}", cure))


def _diagnose(overrides: Sequence[str]) -> tuple[list[Fault], list[str]]:
    """Find which overrides are at fault, each on its own: first the choices of groups, then values under them. Returns
    the faults, and the overrides that are sound."""
    faults: list[Fault] = []
    known, choices, values = groups(), [], []
    for text in overrides:
        try:
            _check_kind([text])
            override = parse_override(text)
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
            composed = _compose([*choices, text])
            OmegaConf.to_container(composed, resolve=True)
        except _ERRORS as error:
            faults.append(_value_fault(key, text, error))
            continue
        if unknown := _unknown(composed):
            faults += unknown
        else:
            sound.append(text)
    return faults, sound


def _together(overrides: Sequence[str], error: Exception) -> Fault:
    """Each override is sound alone: the first that does not go with those before it."""
    for count, text in enumerate(overrides, start=1):
        try:
            OmegaConf.to_container(_compose(overrides[:count]), resolve=True)
        except _ERRORS as found:
            return Fault(text, reason(found), "change it, or what comes before it")
    return Fault("configuration", reason(error), "leave out what was given last")


def _value_fault(key: str, text: str, error: Exception) -> Fault:
    group, _, name = key.partition(".")
    if key.startswith(_ARGUMENTS):
        if text.startswith("~"):
            return Fault(text, "there is no such argument to delete", "leave it out")
        return Fault(text, "an argument for timm is added", f"write +{text.lstrip('+')}")
    if key not in option_keys():
        return _no_such(key)
    if isinstance(error, AssertionError):
        owner = key.rpartition(".")[0]
        return Fault(key, f"there is no {owner} in what was chosen", f"take a {group} that has one")
    having = [n for n, v in VARIANTS.get(group, {}).items() if name in {f.name for f in dataclasses.fields(v)}]
    if "Could not override" in str(error) and having:
        choices = " or ".join(f"{group}={n}" for n in having)
        return Fault(key, f"is no option of the {group} chosen", f"{choices} has it")
    if key == _ARGUMENTS.rstrip("."):
        return Fault(text, reason(error), f"name each argument, as in +{_ARGUMENTS}act_layer=relu")
    return Fault(text, reason(error), f"see {key} in `xlatrain train --help`")


def _no_such(key: str) -> Fault:
    return _wrong(key, "there is no such option", key, [*option_keys(), *groups()], "")


def _wrong(key: str, problem: str, found: str, allowed: Sequence[str], prefix: str) -> Fault:
    near = difflib.get_close_matches(found, allowed, n=1, cutoff=0.5)
    few = len(allowed) <= 12
    listed = f"one of {', '.join(allowed)}" if few else "`xlatrain train --help` lists them all"
    if near:
        return Fault(key, problem, f"did you mean {prefix}{near[0]}? ({listed})")
    return Fault(key, problem, f"take {listed}" if few else listed)


def reason(error: BaseException) -> str:
    """Why something does not compose, in a line: Hydra says where and keeps the reason as the cause."""
    return str(error.__cause__ or error).strip().splitlines()[0]
