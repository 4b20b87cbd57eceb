"""`xlatrain shards verify`: reads everything and names each sample that training would stumble over."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass

import numpy as np

from xlatrain.data.retry import DEFAULTS
from xlatrain.data.shards import INDEX, Shard, ShardIndex, read_index
from xlatrain.data.source import check_url, join_url, read_all
from xlatrain.errors import EXIT_DONE, EXIT_FAILED, ConfigError
from xlatrain.pack.index import show_problems, survey_all
from xlatrain.pack.plan import TRAIN, VAL
from xlatrain.pack.progress import say
from xlatrain.pack.survey import Order, Survey

NAMED = 10  # classes in a line


@dataclass(frozen=True)
class Opened:
    """The splits of a data set by name, and those that cannot be opened with why."""

    splits: dict[str, ShardIndex]
    problems: dict[str, list[str]]


def verify(url: str, processes: int) -> int:
    """Returns the exit code."""
    opened = open_splits(url)
    problems = dict(opened.problems)
    for name, index in opened.splits.items():
        problems[name] = _verify_split(name, index, processes)
    if other := _other_classes(opened.splits):
        problems["train and val"] = [other]
    for name, found in problems.items():
        if found:
            show_problems(name, found)
    if TRAIN in opened.splits and VAL not in problems:
        say(f"{url} has no val")
    if any(problems.values()):
        return EXIT_FAILED
    say(f"{url}: clean")
    return EXIT_DONE


def open_splits(url: str) -> Opened:
    """The split at a url, or train and val below it. Raises ConfigError when there is none."""
    check_url(url, "URL")
    url = url if "://" in url else os.path.abspath(url)
    names = {"split": url} if url.endswith(".json") or _has_index(url) else {}
    names = names or {name: join_url(url, name) for name in (TRAIN, VAL) if _has_index(join_url(url, name))}
    if not names:
        read_index(url, key="URL")
    splits, problems = {}, {}
    for name, place in names.items():
        try:
            splits[name] = read_index(place, key="URL")
        except ConfigError as error:
            problems[name] = [f"{f.problem}: no shard was read" for f in error.faults]
    return Opened(splits, problems)


def _has_index(url: str) -> bool:
    try:
        read_all(join_url(url, INDEX), DEFAULTS)
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


def _verify_split(name: str, index: ShardIndex, processes: int) -> list[str]:
    orders = [Order(i, s.name, index.url(s), True, s.bytes) for i, s in enumerate(index.shards)]
    surveys = survey_all(orders, processes, name, "images", index.samples)
    classes, problems = len(index.class_names), []
    for survey, stated in zip(surveys, index.shards, strict=True):
        problems += [*survey.problems, *_differences(survey, stated), *_out_of_range(survey, classes)]
    problems += _repeated_keys(surveys)
    _tell_of_classes(name, index, surveys)
    if lacking := [s.name for s in index.shards if s.sha256 is None]:
        say(f"{name}: {len(lacking)} shards have no checksum in the index, which cannot tell whether they are the same")
    return problems


def _differences(survey: Survey, stated: Shard) -> list[str]:
    """Where the index says something else than the shard."""
    if not survey.whole:
        return []
    pairs = {
        "samples": (stated.samples, survey.shard.samples),
        "bytes": (stated.bytes, survey.shard.bytes),
        "sha256": (stated.sha256, survey.shard.sha256),
        "marks": (stated.marks or None, survey.shard.marks),
    }
    found = {what: pair for what, pair in pairs.items() if pair[0] is not None and pair[0] != pair[1]}
    if "marks" in found:
        found["marks"] = ("other places", "these begin elsewhere")
    return [f"{stated.name}: {what}: the index says {said}, the shard {is_}" for what, (said, is_) in found.items()]


def _out_of_range(survey: Survey, classes: int) -> list[str]:
    places = np.flatnonzero(survey.labels >= classes).tolist()
    limit = f"there are {classes} classes"
    return [f"{survey.shard.name}: {survey.keys[i]}: its label is {survey.labels[i]}; {limit}" for i in places]


def _repeated_keys(surveys: list[Survey]) -> list[str]:
    """Keys that more than one sample of the split has. Checksums of keys are compared: they take less memory."""
    sums = [np.array([_checksum(key) for key in s.keys], np.uint64) for s in surveys]
    values, counts = np.unique(np.concatenate(sums), return_counts=True) if sums else (np.array([]), np.array([]))
    repeated, first, problems = values[counts > 1], {}, []
    for survey, own in zip(surveys, sums, strict=True):
        for i in np.flatnonzero(np.isin(own, repeated)).tolist():
            key, shard = survey.keys[i], survey.shard.name
            if key in first:
                problems.append(f"{shard}: {key}: the key is also in {first[key]}")
            first.setdefault(key, shard)
    return problems


def _checksum(key: str) -> int:
    return int.from_bytes(hashlib.blake2b(key.encode("utf-8", "surrogateescape"), digest_size=8).digest(), "little")


def _tell_of_classes(name: str, index: ShardIndex, surveys: list[Survey]) -> None:
    labels = np.concatenate([s.labels for s in surveys]) if surveys else np.zeros(0, np.int64)
    counts = np.bincount(labels[(labels >= 0) & (labels < len(index.class_names))], minlength=len(index.class_names))
    empty = [index.class_names[i] for i in np.flatnonzero(counts == 0).tolist()]
    if empty:
        listed = ", ".join(empty[:NAMED]) + (f" and {len(empty) - NAMED} more" if len(empty) > NAMED else "")
        say(f"{name}: classes without an image: {listed}")
    if counts.any():
        say(f"{name}: {counts[counts > 0].min():,} to {counts.max():,} images in a class")


def _other_classes(splits: dict[str, ShardIndex]) -> str | None:
    if len({index.class_names for index in splits.values()}) <= 1:
        return None
    train, val = splits[TRAIN].class_names, splits[VAL].class_names
    if len(train) != len(val):
        return f"train has {len(train)} classes, val {len(val)}"
    place = next(i for i, pair in enumerate(zip(train, val, strict=True)) if pair[0] != pair[1])
    return f"their classes have other names: class {place} is {train[place]!r} in train, {val[place]!r} in val"
