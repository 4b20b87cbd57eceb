"""`xlatrain shards verify`: reads everything and names each sample that training would stumble over."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence

import numpy as np

from xlatrain.console import say
from xlatrain.data.make_shards.classes import tell_of_classes
from xlatrain.data.make_shards.index import show_problems, survey_all
from xlatrain.data.make_shards.pictures import TRAIN, VAL
from xlatrain.data.make_shards.splits import open_splits, tars_of
from xlatrain.data.make_shards.survey import Survey, SurveyTask
from xlatrain.data.shard_format import Shard, ShardIndex, label_outside
from xlatrain.errors import EXIT_DONE, EXIT_FAILED
from xlatrain.words import counted


def verify(url: str, processes: int) -> int:
    """Returns the exit code. Clean is what `train` can read whole: train and val, or the split that was named."""
    opened = open_splits(url)
    problems = dict(opened.problems)
    for name, index in opened.splits.items():
        problems[name] = _verify_split(name, index, processes)
    others = [name for name in opened.splits if name not in (TRAIN, VAL)]
    for name in opened.missing:
        if others:
            say(f"{name}: there is none: training needs data.{name} to name one of {', '.join(others)}")
        else:
            problems[name] = ["there is none, and training reads one; a split alone is verified by its own address"]
    if other := _other_classes(opened.splits):
        problems["classes"] = other
    for name, found in problems.items():
        if found:
            show_problems(name, found)
    if any(problems.values()):
        return EXIT_FAILED
    read = ", ".join(f"{name} {index.samples:,}" for name, index in opened.splits.items())
    say(f"{url}: clean, all images read: {read}")
    return EXIT_DONE


def _verify_split(name: str, index: ShardIndex, processes: int) -> list[str]:
    tasks = [SurveyTask(i, s.name, index.url(s), True, s.bytes) for i, s in enumerate(index.shards)]
    surveys = survey_all(tasks, processes, name, "image", index.samples)
    classes, problems = len(index.class_names), []
    for survey, stated in zip(surveys, index.shards, strict=True):
        problems += [*survey.problems, *_differences(survey, stated), *_out_of_range(survey, classes)]
    problems += _repeated_keys(surveys)
    if not index.samples:
        problems.append("the index names no sample: training would have nothing to read")
    _tell_of_unnamed(name, index)
    tell_of_classes(name, index.class_names, surveys)
    if lacking := [s.name for s in index.shards if s.sha256 is None]:
        what = f"no checksum of {counted(len(lacking), 'shard')}"
        say(f"{name}: {what} in the index, which cannot tell whether they are the same")
    return problems


def _tell_of_unnamed(name: str, index: ShardIndex) -> None:
    """Tars beside a local index that it does not name: perhaps they were added later."""
    if "://" in index.root:
        return
    named = {os.path.abspath(index.url(s)) for s in index.shards}
    if others := [path for path in tars_of(index.root) if os.path.abspath(path) not in named]:
        say(f"{name}: {len(others)} .tar beside the index that it does not name and nobody reads, first {others[0]}")


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
    return [f"{survey.shard.name}: {survey.keys[i]}: {label_outside(survey.labels[i], classes)}" for i in places]


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


def _other_classes(splits: dict[str, ShardIndex]) -> list[str]:
    """Splits of other classes than the first one."""
    (first, names), *others = [(split, index.class_names) for split, index in splits.items()] or [("", ())]
    return [_difference(first, names, other, theirs) for other, theirs in others if theirs != names]


def _difference(one: str, names: Sequence[str], other: str, theirs: Sequence[str]) -> str:
    if len(names) != len(theirs):
        return f"{one} has {counted(len(names), 'class')}, {other} {len(theirs)}"
    place = next(i for i, pair in enumerate(zip(names, theirs, strict=True)) if pair[0] != pair[1])
    return f"their classes have other names: class {place} is {names[place]!r} in {one}, {theirs[place]!r} in {other}"
