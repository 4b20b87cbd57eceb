"""A sweep before it runs: its jobs where they can be listed, else the ends of its search space."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import DictConfig

from xlatrain.cli.sweeper import chosen_sweep, goal, hydra_settings, with_params
from xlatrain.config.choices import groups, split_command
from xlatrain.config.compose import compose_config
from xlatrain.config.override import check_hydra, parse_override, reason
from xlatrain.config.schema import Config
from xlatrain.errors import ConfigError, Fault
from xlatrain.preflight.checked import CheckedEvaluation, CheckedRun

Checked = CheckedRun | CheckedEvaluation
Check = Callable[[Sequence[str]], Checked]


@dataclass(frozen=True)
class Sweep:
    """listed: all jobs are known, and `jobs` are they; else a sweeper chooses them as it goes, and `jobs` are some
    points of what it chooses from. swept: the options that have several values. arguments: what Hydra is given, empty
    where its sweepers and launchers have no part in it."""

    listed: bool
    jobs: list[Checked]
    swept: frozenset[str]
    arguments: list[str]

    @property
    def first(self) -> Config:
        """The configuration of one of the jobs, from which what is common to all is taken."""
        return self.jobs[0].config


def check_sweep(command: Sequence[str], check: Check) -> Sweep:
    """Check a multirun before any of it is started. Where all jobs are known each is checked. Of a search every value
    that it lists must compose, and only what is wrong with all points tried is a fault, which no choice would cure: the
    rest is found job by job. Raises ConfigError."""
    folders, overrides = split_command(command)
    hydra = [text for text in overrides if parse_override(text).is_hydra_override()]
    check_hydra(hydra)
    own = [text for text in command if text not in hydra]
    chosen, plain = chosen_sweep(own), with_params(own)
    parsed = map(parse_override, split_command(plain)[1])
    swept = frozenset(override.get_key_element() for override in parsed if override.is_sweep_override())
    if not hydra and not chosen:
        return Sweep(True, _check_all(sweep_jobs(plain), check), swept, [])
    settings = hydra_settings(folders, [*chosen, *hydra])
    sweeper = settings.sweeper
    if _is_basic(sweeper):
        jobs = _check_all(sweep_jobs(plain), check)
        told = [*overrides, *goal(sweeper, jobs[0].config, hydra)]
        return Sweep(True, jobs, swept, told if hydra or not _is_basic(settings.launcher) else [])
    points = search_points(plain)
    sound, faults = [], []
    for point in points:
        try:
            sound.append(check(point))
        except ConfigError as error:
            faults.append(error.faults)
    if len(faults) == len(points):
        certain = set.intersection(*({fault.key for fault in of_point} for of_point in faults))
        if shared := [fault for fault in faults[0] if fault.key in certain]:
            raise ConfigError(*shared)
    if unsound := _unsound(points):
        raise ConfigError(*unsound)
    if not sound:
        raise ConfigError(*faults[0])
    return Sweep(False, sound, swept, [*overrides, *goal(sweeper, sound[0].config, hydra)])


def _is_basic(plugin: DictConfig) -> bool:
    """Whether a sweeper or launcher is Hydra's own, which does what is done here without it."""
    return str(plugin.get("_target_")).rpartition(".")[2] in ("BasicSweeper", "BasicLauncher")


def _check_all(jobs: Sequence[Sequence[str]], check: Check) -> list[Checked]:
    """Every job checked. Raises ConfigError with the faults of all."""
    checked, faults = [], {}
    for job in jobs:
        try:
            checked.append(check(job))
        except ConfigError as error:
            faults |= dict.fromkeys(error.faults)
    if faults:
        raise ConfigError(*faults)
    return checked


def _unsound(jobs: Sequence[Sequence[str]]) -> list[Fault]:
    """What does not compose."""
    faults: dict[Fault, None] = {}
    for job in jobs:
        try:
            compose_config(job)
        except ConfigError as error:
            faults |= dict.fromkeys(error.faults)
    return list(faults)


def sweep_jobs(command: Sequence[str]) -> list[list[str]]:
    """The command of each job of a multirun: every combination of the choices. Raises ConfigError."""
    folders, overrides = split_command(with_params(command))
    choices = {}  # an option that is given twice counts once, as the later says
    for text in overrides:
        override = parse_override(text)
        if override.is_interval_sweep():
            cure = "list values, as in optimizer.lr=0.1,0.2, or take a sweeper that does: hydra/sweeper=optuna"
            raise ConfigError(Fault(text, "Hydra's basic sweeper does not choose from an interval", cure))
        choices[override.get_key_element()] = _values(override, text, folders)
    return [[*folders, *job] for job in itertools.product(*choices.values())]


def search_points(command: Sequence[str]) -> list[list[str]]:
    """Jobs in which each end of each interval or range and each listed choice of a search occurs: two that begin and
    end it, and one for every further choice. Raises ConfigError."""
    folders, overrides = split_command(command)
    values: dict[str, list[str]] = {}
    for text in overrides:
        override = parse_override(text)
        key = override.get_key_element()
        if override.is_interval_sweep():
            values[key] = [f"{key}={override.value().start}", f"{key}={override.value().end}"]
        elif override.is_range_sweep():
            listed = _values(override, text, folders)
            values[key] = [listed[0], listed[-1]]
        else:
            values[key] = _values(override, text, folders)
    first = {key: of_key[0] for key, of_key in values.items()}
    points = [first, {key: of_key[-1] for key, of_key in values.items()}]
    points += [first | {key: value} for key, of_key in values.items() for value in of_key[1:-1]]
    return [[*folders, *point.values()] for point in points]


def _values(override: Override, text: str, folders: Sequence[str]) -> list[str]:
    """One override for each of the values that an override lists."""
    if not override.is_sweep_override():
        return [text]
    group = override.key_or_group
    known = groups(folders).get(group, [])
    try:
        # Hydra expands a glob by what it finds in its search path.
        names = override.value().filter(known) if _is_glob(override) else override.sweep_string_iterator()
        values = [f"{override.get_key_element()}={name}" for name in names]
    except (HydraException, ValueError) as error:
        raise ConfigError(Fault(text, reason(error), "list the values, as in train.seed=0,1")) from None
    if not values and _is_glob(override):
        every = ", ".join(groups(folders))
        cure = f"the choices are {', '.join(known)}" if known else f"globs are for the groups: {every}"
        raise ConfigError(Fault(text, "no choice has such a name", cure))
    if not values:
        raise ConfigError(Fault(text, "holds no value", "a range ends before its stop, as in train.seed=range(0,3)"))
    return values


def _is_glob(override: Override) -> bool:
    return override.is_choice_sweep() and hasattr(override.value(), "filter")
