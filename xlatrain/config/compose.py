"""Hydra overrides to a typed Config; what does not compose is named fault by fault, with the nearest right spelling."""

from __future__ import annotations

import copy
import dataclasses
import functools
from collections.abc import Sequence

from hydra import compose, initialize_config_dir
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from xlatrain.config.choices import CONF, groups, is_own_group, search_path, split_command
from xlatrain.config.override import (
    arguments_key,
    check_kind,
    given_keys,
    name_each,
    no_such,
    option_keys,
    parse_override,
    reason,
    wrong_name,
)
from xlatrain.config.schema import VARIANTS, Config
from xlatrain.config.targets import settle_own_parts, uncounted
from xlatrain.errors import ConfigError, Fault

# An AssertionError: an option under one that is null.
_ERRORS = (HydraException, OmegaConfBaseException, ValueError, TypeError, AssertionError)


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


def compose_config(command: Sequence[str], fill: bool = False) -> tuple[Config, DictConfig]:
    """Compose one job: the typed configuration, and the same as OmegaConf. command: overrides, and --config-dir=FOLDER
    for choices of one's own. Raises ConfigError with all faults; its `usable` holds the words that are not at fault.
    fill: give options that have no value an empty one, so that the rest can be checked."""
    try:
        check_kind(command)
        composed = _compose(command)
        if faults := uncounted(composed, given_keys(command)):
            raise ConfigError(*faults)
        return to_config(composed, fill), composed
    except (*_ERRORS, ConfigError) as error:
        _compose([])  # what fails without any override is a fault of conf/ itself: let it be seen whole
        faults, usable = _diagnose(command)
        if not faults:
            faults = list(error.faults) if isinstance(error, ConfigError) else [_together(command, error)]
        raise ConfigError(*faults, usable=usable) from None


def to_config(composed: DictConfig, fill: bool = False) -> Config:
    """An OmegaConf configuration as dataclasses. fill: as compose_config. Raises ConfigError naming the options that
    have no value, and those that are in no schema: `++key=value` adds what it likes."""
    settle_own_parts(composed)
    for key in OmegaConf.missing_keys(composed) if fill else ():
        OmegaConf.update(composed, key, "")
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
            faults.append(no_such(f"{prefix}{key}"))
        elif not OmegaConf.is_missing(node, key) and isinstance(child := node[key], DictConfig):
            faults += _unknown(child, f"{prefix}{key}.")
    return faults


def compose_hydra(command: Sequence[str]) -> DictConfig:
    """Hydra's own configuration, of sweepers and launchers. Raises what Hydra raises."""
    folders, overrides = split_command(command)
    return _compose_all([*search_path(folders), *overrides], hydra=True).hydra


def _compose(command: Sequence[str]) -> DictConfig:
    """What a command comes to: the groups as Hydra composes them, and values set in a copy of that, as Hydra itself
    does it in the end. Composing takes 100 ms, setting 5: a sweep, and who looks for a fault, asks for the same groups
    again and again. Folders of one's own are read each time: their files may change."""
    folders, overrides = split_command(command)
    if folders:
        return _compose_all([*search_path(folders), *overrides], hydra=False)
    parsed = OverridesParser.create().parse_overrides(overrides)
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


def _diagnose(command: Sequence[str]) -> tuple[list[Fault], list[str]]:
    """Find which words of a command are at fault, each on its own: first the choices of groups, then values under them.
    Returns the faults, and the words that are sound."""
    folders, overrides = split_command(command)
    try:
        search_path(folders)
    except ConfigError as error:
        return list(error.faults), overrides
    faults: list[Fault] = []
    known, choices, values = groups(folders), [], []
    for text in overrides:
        try:
            check_kind([*folders, text])
            override = parse_override(text)
        except ConfigError as error:
            faults += error.faults
            continue
        key = override.key_or_group
        if key not in known or isinstance(override.value(), dict):
            values.append((key, text))
        elif (wanted := str(override.value())) not in known[key]:
            faults.append(wrong_name(key, f"there is no choice {wanted!r}", wanted, known[key], f"{key}="))
        elif is_own_group(key, folders) and not override.is_add():
            cure = f"write +{text}"
            faults.append(Fault(text, f"{key} is a group of your own, which nothing has chosen from yet", cure))
        else:
            choices.append(text)
    sound = [*folders, *choices]
    for text in choices:  # those that are sound by name; what is in them may not be
        if fault := _choice_fault(text, folders):
            faults.append(fault)
            sound.remove(text)
    choices = list(sound)
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


def _choice_fault(text: str, folders: Sequence[str]) -> Fault | None:
    """What is wrong with the content of a choice in a folder of one's own; those in conf/ are sound."""
    override = parse_override(text)
    group, name = override.key_or_group, str(override.value())
    if name in groups().get(group, []):
        return None
    cure = "see the options in `xlatrain train --help`; "
    if group in groups():
        cure += "arguments of a _target_ go under kwargs"
    else:
        cure += "files of a group of your own begin with # @package _global_"
    try:
        unknown = _unknown(_compose([*folders, text]))
    except _ERRORS as error:
        return Fault(f"{group}/{name}.yaml", " ".join(str(error).strip().splitlines()[:2]), cure)
    return Fault(f"{group}/{name}.yaml", f"sets {unknown[0].key}, which is no option", cure) if unknown else None


def _together(command: Sequence[str], error: Exception) -> Fault:
    """Each override is sound alone: the first that does not go with those before it."""
    folders, overrides = split_command(command)
    for count, text in enumerate(overrides, start=1):
        try:
            OmegaConf.to_container(_compose([*folders, *overrides[:count]]), resolve=True)
        except _ERRORS as found:
            return Fault(text, reason(found), "change it, or what comes before it")
    return Fault("configuration", reason(error), "leave out what was given last")


def _value_fault(key: str, text: str, error: Exception) -> Fault:
    group, _, name = key.partition(".")
    owner = arguments_key(key)
    if owner and key != owner:
        if text.startswith("~"):
            return Fault(text, "there is no such argument to delete", "leave it out")
        return Fault(text, f"what is under {owner} is added", f"write +{text.lstrip('+')}")
    if key not in option_keys():
        return no_such(key)
    if isinstance(error, AssertionError):
        above = key.rpartition(".")[0]
        return Fault(key, f"there is no {above} in what was chosen", f"take a {group} that has one")
    having = [n for n, v in VARIANTS.get(group, {}).items() if name in {f.name for f in dataclasses.fields(v)}]
    if "Could not override" in str(error) and having:
        choices = " or ".join(f"{group}={n}" for n in having)
        return Fault(key, f"is no option of the {group} chosen", f"{choices} has it")
    if owner:
        return Fault(text, reason(error), name_each(owner))
    if "is not a ListConfig" in reason(error):
        return Fault(text, "is a list", f"write {key}=[{text.partition('=')[2]}]")
    return Fault(text, reason(error), f"see {key} in `xlatrain train --help`")
