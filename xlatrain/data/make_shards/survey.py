"""Reads one shard whole and says what it holds and what is wrong with it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from xlatrain.data.make_shards.convert import decode_whole
from xlatrain.data.shard_format import IMAGE_TYPES, MARK_EVERY, Shard, group_members, parse_label, sample_faults
from xlatrain.data.storage.hashed import Hashed
from xlatrain.data.storage.retry import DEFAULTS
from xlatrain.data.storage.streams import open_stream
from xlatrain.data.storage.tar import Member, TarError, read_members
from xlatrain.errors import DataError, in_a_line


@dataclass(frozen=True)
class SurveyTask:
    """To read a shard: its place in the split and its address. decode: also decode each image."""

    number: int
    name: str
    url: str
    decode: bool
    size: int | None = None


@dataclass(frozen=True)
class Survey:
    """A shard as it is. labels: -1 for a sample without a class number. whole: read to its end. problems: a line
    each."""

    number: int
    shard: Shard
    keys: tuple[str, ...]
    labels: np.ndarray
    whole: bool
    problems: tuple[str, ...]


def survey_shard(task: SurveyTask) -> Survey:
    """Damage is among the problems; never raises for it."""
    keys, labels, marks, problems, shard = [], [], [], [], Shard(task.name, 0)
    try:
        with open_stream(task.url, DEFAULTS, size=task.size) as stream:
            hashed = Hashed(stream)
            for key, members in group_members(read_members(hashed)):
                if len(keys) % MARK_EVERY == 0:
                    marks.append(members[0][1].offset)
                keys.append(key)
                labels.append(_label(members))
                problems += [f"{task.name}: {key}: {what}" for what in _problems(key, members, task.decode)]
            shard = Shard(task.name, len(keys), hashed.size, hashed.sha256, tuple(marks))
    except FileNotFoundError:
        problems.append(f"{task.name}: there is no {task.url}")
    except (TarError, DataError, OSError) as error:
        after = f"after {keys[-1]}" if keys else "from its beginning"
        problems.append(f"{task.name}: {after} the tar cannot be read on: {error}")
    whole = shard.bytes is not None
    return Survey(task.number, shard, tuple(keys), np.array(labels, np.int64), whole, tuple(problems))


def _label(members: list[tuple[str, Member]]) -> int:
    label = next((parse_label(m.data) for kind, m in members if kind == "cls"), None)
    return -1 if label is None else label


def _problems(key: str, members: list[tuple[str, Member]], decode: bool) -> list[str]:
    found = sample_faults(members)
    if any(c < " " or c == "\x7f" for c in key):
        found.append(f"its name has control characters: {key!r}")
    for image in (m for kind, m in members if decode and kind in IMAGE_TYPES):
        try:
            decode_whole(image.data)
        except Exception as error:  # decoders raise anything for damaged images
            found.append(f"cannot be decoded: {in_a_line(error)}")
    return found
