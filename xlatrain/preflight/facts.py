"""What weights know of themselves, so that they can be used without the command that made them.

It travels in the weights file. No time, host or folder is in it: identical runs write identical files.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from xlatrain.config.schema import Config
from xlatrain.credentials import masked
from xlatrain.errors import ConfigError, Fault

# The options that decide what saved weights answer to an image; model.kwargs.* belong to them.
OPTIONS = (
    "model.name",
    "model._target_",
    "model.pool",
    "model.bn_eps",
    "data.image_size",
    "data.num_classes",
    "data.mean",
    "data.std",
    "data.interpolation",
    "data.eval_padding",
    "data.eval_ratio",
    "precision.name",
)
_INPUT = "float32 [N, 3, H, W], RGB in 0..1, minus mean, divided by std"
# Where timm takes initial weights from: they are replaced. A file that names some was not written by a run.
_FETCHING = ("pretrained", "checkpoint_path", "cache_dir")
_NOT_TAKEN = (*_FETCHING, "pretrained_cfg", "pretrained_cfg_overlay", "pretrained_strict")


@dataclass(frozen=True)
class Facts:
    """averaged: the weights are the moving average's. timm: arguments of timm.create_model, None for a model of one's
    own, which options tell. options: those of OPTIONS, as the run evaluated with them. class_names: of the labels in
    order, () where the data have none. data: the data set's name. input: what the model takes. versions: of the
    software."""

    averaged: bool
    timm: dict[str, Any] | None
    options: dict[str, Any]
    class_names: tuple[str, ...]
    data: str
    versions: dict[str, str]
    input: str = _INPUT

    def to_json(self) -> str:
        return json.dumps(asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> Facts:
        """Raises ValueError when it is not what to_json writes."""
        try:
            facts = cls(**json.loads(text))
            kinds = {"options": dict, "class_names": list, "versions": dict, "data": str}
            sound = all(isinstance(getattr(facts, name), kind) for name, kind in kinds.items())
            sound &= isinstance(facts.timm, (dict, type(None))) and all(isinstance(n, str) for n in facts.class_names)
            if not sound:
                raise TypeError
            return replace(facts, class_names=tuple(facts.class_names))
        except (TypeError, RecursionError):
            raise ValueError("what it says of itself in its metadata is not what a run writes") from None


def describe_weights(
    config: Config,
    num_classes: int,
    class_names: Collection[str],
    timm_arguments: Mapping[str, Any] | None,
    versions: Mapping[str, str],
) -> Facts:
    """The facts of a run's weights; num_classes, class_names: of its data set."""
    tree = OmegaConf.structured(config)
    options = {key: OmegaConf.select(tree, key) for key in OPTIONS if _has(config, key)}
    options = {k: OmegaConf.to_container(v) if OmegaConf.is_config(v) else v for k, v in options.items()}
    options |= {f"model.kwargs.{k}": v for k, v in config.model.kwargs.items() if k not in _FETCHING}
    if config.model._target_ is None:
        del options["model._target_"]
    return Facts(
        averaged=config.ema.enabled,
        timm=timm_arguments and masked({k: v for k, v in timm_arguments.items() if k not in _FETCHING}),
        options=masked(options | {"data.num_classes": num_classes}),
        class_names=tuple(class_names),
        data=config.data.name,
        versions=dict(versions),
    )


def take_facts(config: Config, facts: Facts, given: Collection[str], file: str) -> tuple[Config, list[str]]:
    """A configuration with what the weights of a file know in place of all that is not `given`, and what this changed,
    in words. Raises ConfigError when another model is given, or what the file says cannot be."""
    tree = OmegaConf.structured(config)
    taken, against = [], []
    if "model._target_" in given and config.model._target_ != facts.options.get("model._target_"):
        problem = f"{config.model._target_}, but {file} holds {facts.options.get('model.name')}"
        raise ConfigError(Fault("model._target_", problem, "leave the model out, or name other weights"))
    _see_own_code(facts, given, file)
    for key, value in facts.options.items():
        if not _has(config, key):
            continue  # another kind of data, or a file that says more than a run writes
        here = _plain(OmegaConf.select(tree, key))
        if here == value:
            continue
        if key not in given:
            taken.append(f"{key}={_text(value)} (else {_text(here)})")
            try:
                OmegaConf.update(tree, key, value, merge=False, force_add=key.startswith("model.kwargs."))
            except OmegaConfBaseException as error:
                problem = f"{file} says {key}={_text(value)}: {str(error).splitlines()[0]}"
                raise ConfigError(Fault("weights", problem, f"give {key} yourself")) from None
        elif key == "model.name" and _architecture(here) != _architecture(value):
            problem = f"{_text(here)}, but {file} holds {_text(value)}"
            raise ConfigError(Fault(key, problem, "leave the model out, or name other weights"))
        else:
            against.append(f"{key}={_text(here)} (there {_text(value)})")
    more = [k for k in config.model.kwargs if (key := f"model.kwargs.{k}") in given and key not in facts.options]
    against += [f"model.kwargs.{k}={_text(config.model.kwargs[k])} (there none)" for k in more]
    notes = [f"from {file}: {', '.join(taken)}"] if taken else []
    notes += [f"as given, other than {file} says: {', '.join(against)}"] if against else []
    return OmegaConf.to_object(tree), notes


def _see_own_code(facts: Facts, given: Collection[str], file: str) -> None:
    """A file is not believed when it names code, which would be imported and called. Raises ConfigError."""
    target = facts.options.get("model._target_")
    if target and "model._target_" not in given:
        problem = f"{file} was trained with {target}, code that a file alone does not make run"
        raise ConfigError(Fault("model._target_", problem, f"if you know that code, say so: model._target_={target}"))


def compare_classes(facts: Facts, class_names: Collection[str], data: str, file: str) -> list[str]:
    """Whether a label means the same class in the weights and in a data set, in words where it may not. Raises
    ConfigError when the same names have other numbers, so that right answers would count as wrong."""
    known, here = list(facts.class_names), list(class_names)
    different = [i for i, (a, b) in enumerate(zip(known, here, strict=False)) if a != b]
    if not different:
        return []
    i = different[0]
    words = f"class {i} is {here[i]!r} in {data} and {known[i]!r} in {file}, from {facts.data}"
    if set(here) <= set(known):
        raise ConfigError(Fault("data", words, "number the classes as the weights do: those left out keep theirs"))
    return [f"warning: {words}; classes are told apart by their numbers"]


def _has(config: Config, key: str) -> bool:
    """Whether it is an option that a file may speak of, and that there is."""
    group, _, name = key.partition(".")
    argument = key.removeprefix("model.kwargs.")
    if argument != key:
        return argument not in _NOT_TAKEN
    return key in OPTIONS and hasattr(getattr(config, group, None), name)


def _plain(value: Any) -> Any:
    return OmegaConf.to_container(value) if OmegaConf.is_config(value) else value


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _architecture(name: str) -> str:
    return name.partition(".")[0]
