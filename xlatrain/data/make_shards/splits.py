"""Finds the splits of a data set: those that have an index, and those that were begun or lack theirs."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path

from xlatrain.data.make_shards.pictures import TRAIN, VAL
from xlatrain.data.make_shards.resume import BAD_FILES, PROGRESS
from xlatrain.data.shard_format import INDEX, ShardIndex, read_index
from xlatrain.data.storage.retry import DEFAULTS
from xlatrain.data.storage.streams import check_url, join_url, list_files, read_all
from xlatrain.errors import ConfigError, DataError, Fault

OWN = "split"  # what a split is called that is asked for itself


@dataclass(frozen=True)
class Opened:
    """The splits of a data set by name, and those that cannot be opened with why."""

    splits: dict[str, ShardIndex]
    problems: dict[str, list[str]]

    @property
    def missing(self) -> list[str]:
        """Train or val, where they are looked for below a root and are not there."""
        found = {*self.splits, *self.problems}
        return [] if OWN in found else [name for name in (TRAIN, VAL) if name not in found]


def open_splits(url: str) -> Opened:
    """The split at a url and those below it: of a local folder all, of a remote one train and val. Raises ConfigError
    when there is none."""
    check_url(url, "URL")
    url = url.removeprefix("file://")
    url = url if "://" in url else os.path.abspath(url)
    if url.endswith(".json"):
        return Opened({OWN: read_index(url, key="URL")}, {})
    splits, problems = {}, {}
    for name, place in {OWN: url, **_below(url)}.items():
        if not _has_index(place):
            if why := _begun(place):
                problems[name] = [why]
            continue
        try:
            splits[name] = read_index(place, key="URL")
        except ConfigError as error:
            problems[name] = [f"{f.problem}: no shard was read" for f in error.faults]
    if not splits and not problems:
        cure = "name what has train/index.json and val/index.json, or write them: xlatrain shards from-folder"
        raise ConfigError(Fault("URL", f"there is no split, neither an {INDEX} nor a .tar, in {url}", cure))
    return Opened(splits, problems)


def _below(url: str) -> dict[str, str]:
    """Where splits may be, train and val first: data.train may name any folder."""
    names = [TRAIN, VAL]
    if "://" not in url and os.path.isdir(url):
        names += sorted(p.name for p in Path(url).iterdir() if p.is_dir() and p.name not in names)
    return {name: join_url(url, name) for name in names}


def _has_index(url: str) -> bool:
    try:
        read_all(join_url(url, INDEX), DEFAULTS)
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


def _begun(place: str) -> str | None:
    """What a place without index holds of a split, and what makes it whole; None when that is nothing."""
    tars = len(tars_of(place))
    bad = Path(place) / BAD_FILES
    if "://" not in place and bad.is_file():
        return f"not finished, {tars} .tar without {INDEX}: mend or remove what {bad} lists, or --skip-bad it"
    if "://" not in place and (Path(place) / PROGRESS).is_dir():
        return f"not finished, {tars} .tar without {INDEX}: the command that began it goes on where it ended"
    return f"{tars} .tar without {INDEX}: xlatrain shards index {place}" if tars else None


def tars_of(place: str) -> list[str]:
    """The tars right below a place; none where a server does not list them."""
    try:
        return list_files(place, ".tar", replace(DEFAULTS, retries=1))
    except (FileNotFoundError, NotADirectoryError, DataError):
        return []
