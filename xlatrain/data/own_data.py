"""Data of one's own: what data._target_ gives, looked at before anything is started."""

from __future__ import annotations

import pickle
from typing import Any

from xlatrain.config.data import AugmentConfig, OwnDataConfig
from xlatrain.config.targets import find_part
from xlatrain.data.shard_format import label_outside
from xlatrain.errors import ConfigError, DataError, Fault, in_a_line
from xlatrain.words import counted


def open_own(config: OwnDataConfig, augment: AugmentConfig) -> tuple[list[Any], int, tuple[str, ...]]:
    """The training and the validation split (data.dataset.Split), the number of classes, and their names. Raises
    ConfigError."""
    found = [_call(config, name) for name in ("train", "val")]
    names = tuple(map(str, _said(found[0], "class_names", "classes") or ()))
    known = len(names) or _said(found[0], "num_classes")
    if config.num_classes is None and not known:
        problem = f"has no value, and {config._target_} has no classes, class_names or num_classes"
        raise ConfigError(Fault("data.num_classes", problem, "give data.num_classes=..."))
    if config.num_classes is not None and known and config.num_classes < known:
        problem = f"{config.num_classes}, but {config._target_} has {counted(known, 'class')}"
        raise ConfigError(Fault("data.num_classes", problem, f"set data.num_classes={known}, or leave it null"))
    classes = config.num_classes or known
    return [_split(config, part, augment, classes) for part in found], classes, names


def _call(config: OwnDataConfig, split: str) -> Any:
    try:
        return find_part(config._target_)(split=split, **config.kwargs)
    except Exception as error:  # of somebody's code
        raise _fault(config, f"with split={split}: {in_a_line(error)}") from error


def _said(part: Any, *names: str) -> Any:
    """What a data set says of its classes, or the one that it is a part of, as of torch's Subset."""
    for name in names:
        if (value := getattr(part, name, None)) is not None:
            return value
    inner = getattr(part, "dataset", None)
    return None if inner is None else _said(inner, *names)


def _split(config: OwnDataConfig, part: Any, augment: AugmentConfig, classes: int) -> Any:
    """A split as it is, or a data set made one."""
    from xlatrain.data.numbered import NumberedSplit

    if all(hasattr(part, name) for name in ("samples", "train_batches", "eval_batches")):
        split = part
        if config.repeats > 1:
            problem = f"{config._target_} makes batches itself: so many views of an image it would have to make too"
            raise ConfigError(Fault("data.repeats", problem, "take data.repeats=1"))
    elif all(hasattr(part, name) for name in ("__len__", "__getitem__")):
        split = NumberedSplit(part, config, augment, classes)
    else:
        raise _fault(config, f"a {type(part).__name__} has no length and no samples by number")
    if not split.samples:
        raise _fault(config, "it gives no samples")
    if isinstance(split, NumberedSplit):
        try:
            label = split.sample(0).label
        except DataError as error:
            raise _fault(config, str(error)) from error
        if not 0 <= label < classes:
            raise _fault(config, f"the first sample's {label_outside(label, classes)}")
    try:
        pickle.dumps(split)
    except Exception as error:
        raise _fault(config, f"replicas live in other processes, and it cannot go there: {in_a_line(error)}") from error
    return split


def _fault(config: OwnDataConfig, problem: str) -> ConfigError:
    cure = "name a class or function that takes split=train or val, and data.kwargs, and gives a torch Dataset"
    return ConfigError(Fault("data._target_", f"{config._target_} cannot be used: {problem}", cure))
