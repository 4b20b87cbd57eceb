"""Finds the images of a folder in ImageFolder layout."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from xlatrain.errors import ConfigError, Fault
from xlatrain.pack.plan import TRAIN, VAL_FOLDERS, Picture, is_image_name


@dataclass(frozen=True)
class Found:
    """The images of train and val, and the classes of train. notes: what the user should know of the choice."""

    train: list[Picture]
    val: list[Picture] | None
    class_names: list[str]
    ignored: int
    notes: list[str] = field(default_factory=list)


def find_images(source: Path) -> Found:
    """Look through SRC: train/ and a val/ (or valid/, validation/, test/) of class folders, or class folders alone.
    Raises ConfigError for what is no such folder."""
    if not source.is_dir():
        raise ConfigError(Fault("SRC", f"there is no folder {source}", "name a folder of class folders"))
    if not _folders(source / TRAIN):  # none, or the pictures of a class that is called train
        if _folders(source, only=VAL_FOLDERS) and all(_folders(f) for f in _folders(source, only=VAL_FOLDERS)):
            raise ConfigError(Fault("SRC", f"{source} has no train/ of class folders", "name the folder above train/"))
        train, ignored = _images(source)
        return Found(train, None, [f.name for f in _folders(source)], ignored)
    train, ignored = _images(source / TRAIN)
    classes = [f.name for f in _folders(source / TRAIN)]
    named = [source / name for name in VAL_FOLDERS if (source / name).is_dir()]
    if not named:
        return Found(train, None, classes, ignored)
    notes = [] if named[0].name == "val" else [f"val is made of {named[0]}"]
    notes += [f"{other} is not used" for other in named[1:]]
    val, ignored_of_val = _images(named[0])
    return Found(train, val, classes, ignored + ignored_of_val, notes)


def _folders(folder: Path, only: tuple[str, ...] = ()) -> list[Path]:
    """The sub-folders, without hidden ones."""
    if not folder.is_dir():
        return []
    with os.scandir(folder) as entries:
        names = [e.name for e in entries if not e.name.startswith(".") and e.is_dir()]
    return [folder / name for name in sorted(names) if not only or name in only]


def _images(root: Path) -> tuple[list[Picture], int]:
    """The images below the class folders of a split, and how many other files there are."""
    pictures, ignored = [], 0
    for name, entry in _files(str(root.absolute()), ""):
        if "/" not in name or not is_image_name(name):
            ignored += 1
            continue
        try:
            status = entry.stat()
            pictures.append(Picture(name, entry.path, 0, status.st_size, status.st_mtime_ns))
        except OSError:  # a link to nowhere: reading says so
            pictures.append(Picture(name, entry.path, 0, 0))
    return pictures, ignored


def _files(folder: str, prefix: str) -> Iterator[tuple[str, os.DirEntry]]:
    with os.scandir(folder) as entries:
        for entry in entries:
            if not entry.is_dir():
                yield prefix + entry.name, entry
            elif not entry.name.startswith("."):
                yield from _files(entry.path, f"{prefix}{entry.name}/")
