"""What Hydra is told, or tells, of a sweep: the choices of conf/sweep/, its sweeper's settings, what better means."""

from __future__ import annotations

from collections.abc import Sequence

from hydra.errors import MissingConfigException
from omegaconf import DictConfig

from xlatrain.config.choices import groups, split_command
from xlatrain.config.compose import compose_hydra
from xlatrain.config.override import SWEEP, parse_override, reason, wrong_name
from xlatrain.config.schema import Config
from xlatrain.errors import ConfigError, Fault

# What installs the plugins that people know; Hydra says only that they are not there.
_PACKAGES = {
    "joblib": "hydra-joblib-launcher",
    "submitit_local": "hydra-submitit-launcher",
    "submitit_slurm": "hydra-submitit-launcher",
    "ray": "hydra-ray-launcher",
    "rq": "hydra-rq-launcher",
    "optuna": "'xlatrain[optuna]'",
    "ax": "hydra-ax-sweeper",
    "nevergrad": "hydra-nevergrad-sweeper",
}

LESS_IS_BETTER = ("loss", "wall_seconds")  # of sweep.objective


def with_params(command: Sequence[str]) -> list[str]:
    """A command with the options that its sweep=NAME gives several values in the place of that: the command's own come
    later, and count. Raises ConfigError."""
    folders, overrides = split_command(command)
    chosen = chosen_sweep(command)
    own = [text for text in overrides if text not in chosen]
    if not chosen:
        return [*folders, *own]
    params = hydra_settings(folders, chosen).sweeper.get("params") or {}
    return [*folders, *(f"{key}={value}" for key, value in params.items()), *own]


def chosen_sweep(command: Sequence[str]) -> list[str]:
    """The overrides of a command that choose a sweep of conf/, or of a folder of one's own; the last one counts. Raises
    ConfigError for one that is not there."""
    folders, overrides = split_command(command)
    chosen = [text for text in overrides if text.partition("=")[0] == SWEEP]
    known = groups(folders)[SWEEP]
    for text in chosen:
        if (name := text.partition("=")[2]) not in known:
            raise ConfigError(wrong_name(SWEEP, f"there is no choice {name!r}", name, known, f"{SWEEP}="))
    return chosen


def hydra_settings(folders: Sequence[str], overrides: Sequence[str]) -> DictConfig:
    """Hydra's own configuration. Raises ConfigError naming the override at fault, and what installs a plugin."""
    for count in range(len(overrides) + 1):
        try:
            settings = compose_hydra([*folders, *overrides[:count]])
        except MissingConfigException as error:
            raise ConfigError(_missing(overrides[count - 1], error)) from None
        except Exception as error:  # Hydra asserts where it does not check
            cure = "see the options of sweepers and launchers: https://hydra.cc/docs/intro"
            raise ConfigError(Fault(overrides[count - 1], reason(error), cure)) from None
    return settings


def _missing(text: str, error: MissingConfigException) -> Fault:
    """The fault of a plugin that is not installed; a choice of conf/sweep/ names one too."""
    override = parse_override(text)
    group, name = override.key_or_group, str(override.value())
    if group == SWEEP and error.missing_cfg_file:
        group, _, name = error.missing_cfg_file.rpartition("/")
    known = [option for option in error.options or () if not option.startswith("_")]
    listed = f"take {' or '.join(known)}" if known else "leave it out"
    cure = f"pip install {_PACKAGES[name]}, or {listed}" if name in _PACKAGES else listed
    return Fault(text, f"Hydra has no {group.removeprefix('hydra/')} {name!r} here", cure)


def goal(sweeper: DictConfig, config: Config, hydra: Sequence[str]) -> list[str]:
    """What a sweeper that chooses, as Optuna's, must know, in overrides: which way is better, that one job that fails
    does not lose the others, and a seed, so that it chooses the same when it is started again. config: of one of its
    jobs. Raises ConfigError if it is told to search for the worst."""
    given = {parse_override(text).key_or_group for text in hydra}
    told, objective = [], config.sweep.objective
    if "direction" in sweeper:
        wanted, better = ("minimize", "less") if objective in LESS_IS_BETTER else ("maximize", "more")
        if "hydra.sweeper.direction" not in given:
            told.append(f"hydra.sweeper.direction={wanted}")
        elif (found := str(sweeper.direction).rpartition(".")[2]) != wanted:
            problem = f"{found}, but {better} is better of sweep.objective={objective}"
            raise ConfigError(Fault("hydra.sweeper.direction", problem, "leave it out"))
    if "max_failure_rate" in sweeper and "hydra.sweeper.max_failure_rate" not in given:
        told.append("hydra.sweeper.max_failure_rate=1")
    if "sampler" in sweeper and "seed" in sweeper.sampler and sweeper.sampler.seed is None:
        told.append(f"hydra.sweeper.sampler.seed={config.train.seed}")
    return told
