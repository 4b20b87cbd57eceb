"""`xlatrain shards from-folder` and `from-tar`: from images to a data set."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.table import Table

from xlatrain.console import make_console, print_whole, say
from xlatrain.data.make_shards.archive import list_archive, plain_archives
from xlatrain.data.make_shards.arrange import arrange, divide, read_labels, without_split
from xlatrain.data.make_shards.convert import NOTES
from xlatrain.data.make_shards.folder import find_images
from xlatrain.data.make_shards.pictures import (
    TRAIN,
    VAL,
    PictureSet,
    WriteOptions,
    fingerprint,
    make_splits,
    split_facts,
)
from xlatrain.data.make_shards.resume import FolderState, is_complete, open_state
from xlatrain.data.make_shards.write import Outcome, already_complete, write_split
from xlatrain.errors import EXIT_DONE, EXIT_FAILED, ConfigError, Fault
from xlatrain.words import counted


@dataclass(frozen=True)
class WriteOrder:
    """How to write, apart from what. split: the share of each class that becomes val."""

    target: Path
    options: WriteOptions
    processes: int
    skip_bad: bool = False
    split: float | None = None


def from_folder(source: Path, order: WriteOrder) -> int:
    """Returns the exit code. Raises ConfigError before anything is written."""
    if order.target.resolve().is_relative_to(source.resolve()):
        raise ConfigError(Fault("DST", f"{order.target} lies in SRC", "name a folder outside of it for the shards"))
    say(f"listing {source}")
    found = find_images(source)
    for note in found.notes:
        say(note)
    splits = make_splits(found.train, found.val, found.class_names, order.split, order.options.seed, str(source))
    _tell(splits, found.ignored)
    prints = {split.name: fingerprint(order.options, split_facts(split)) for split in splits}
    return _write(splits, prints, order)


def from_tar(sources: Sequence[Path], val: Path | None, labels_file: Path | None, order: WriteOrder) -> int:
    """Returns the exit code. Raises ConfigError before a shard is written."""
    archives = [*sources, *([val] if val else [])]
    if missing := [a for a in archives if not a.is_file()]:
        raise ConfigError(Fault("SRC", f"there is no archive {missing[0]}", "name tar files"))
    labels = read_labels(labels_file) if labels_file else {}
    statuses = [(a.name, a.stat().st_size, a.stat().st_mtime_ns, a == val) for a in archives]
    facts = statuses, hashlib.sha256(repr(sorted(labels.items())).encode()).hexdigest(), order.split
    prints = {name: fingerprint(order.options, name, *facts) for name in (TRAIN, VAL)}
    if all(is_complete(order.target / name, prints[name]) for name in prints):
        states = _open(prints, order.target)
        return _report([already_complete(state, order.skip_bad) for state in states.values()])
    _open(prints, order.target)  # a folder of another plan is refused before the archives are read
    with _folder(order.target), plain_archives(archives, order.target) as plain:
        arranged, ignored = [], 0
        for archive, path in zip(archives, plain, strict=True):
            listed = list_archive(path, archive)
            if listed.hidden:
                say(f"{archive}: hidden folders, left out: {len(listed.hidden):,}, the first {min(listed.hidden)}")
            arranged.append(arrange(listed.pictures, labels, archive))
            ignored += listed.ignored
        of_val = without_split(arranged.pop()) if val else None
        train, inside, notes = divide([p for pictures in arranged for p in pictures])
        if val and inside:
            notes, inside = [*notes, f"val is made of {val}, not of the folder beside train/"], None
        for note in notes:
            say(note)
        classes = {p.class_name for p in train}
        name = " ".join(map(str, sources))
        splits = make_splits(train, of_val or inside, classes, order.split, order.options.seed, name)
        _tell(splits, ignored)
        return _write(splits, prints, order)


@contextlib.contextmanager
def _folder(path: Path) -> Iterator[None]:
    """A folder that is there; when it was made here and nothing came of it, it goes again."""
    path.mkdir(parents=True, exist_ok=True)
    try:
        yield
    finally:
        if not any(path.iterdir()):
            path.rmdir()


def _open(prints: dict[str, str], target: Path) -> dict[str, FolderState]:
    return {name: open_state(target / name, print_) for name, print_ in prints.items()}


def _tell(splits: Sequence[PictureSet], ignored: int) -> None:
    train, val = (len(split.pictures) for split in splits)
    say(f"{counted(train, 'image')} of train and {val:,} of val in {counted(len(splits[0].class_names), 'class')}")
    if ignored:
        say(f"ignored: {counted(ignored, 'other file')}")
    for split in splits:
        empty = sorted(set(split.class_names) - {p.class_name for p in split.pictures})
        if empty:
            say(f"{split.name}: no image of {counted(len(empty), 'class')}, the first {empty[0]}")


def _write(splits: Sequence[PictureSet], prints: dict[str, str], order: WriteOrder) -> int:
    states = _open(prints, order.target)
    outcomes = [
        write_split(states[split.name], split, order.options, order.processes, order.skip_bad) for split in splits
    ]
    return _report(outcomes)


def _report(outcomes: Sequence[Outcome]) -> int:
    """The table that ends a run. Returns the exit code."""
    table = Table(box=None, pad_edge=False)
    seen = {note for o in outcomes for note, count in (o.counts or {}).items() if count}
    notes = [note for note in NOTES if note in seen]
    for column in ("split", "shards", "images", "bytes", "bad", *notes):
        table.add_column(column, justify="left" if column == "split" else "right")
    for o in outcomes:
        if o.counts is not None:
            odd = [f"{o.counts.get(note, 0):,}" for note in notes]
            table.add_row(o.folder.name, f"{o.shards:,}", f"{o.samples:,}", f"{o.bytes:,}", f"{o.bad:,}", *odd)
    if table.row_count:
        print_whole(table, make_console())
    for o in outcomes:
        if not o.sound:
            say(f"{o.folder} has no index yet: mend or remove the bad files, or leave them out with --skip-bad")
    return EXIT_DONE if all(o.sound for o in outcomes) else EXIT_FAILED
