"""Finds the images of a folder in ImageFolder layout."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from xlatrain.data.image_names import is_image_name
from xlatrain.data.make_shards.pictures import TRAIN, VAL_FOLDERS, Picture
from xlatrain.errors import ConfigError, Fault

Identity = tuple[int, int]  # device and inode: one folder, whatever the way to it


@dataclass
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
    named = [source / name for name in VAL_FOLDERS if (source / name).is_dir()]
    if not _has_folders(source / TRAIN):  # none, or the pictures of a class that is called train
        if named and all(map(_has_folders, named)):
            raise ConfigError(Fault("SRC", f"{source} has no train/ of class folders", "name the folder above train/"))
        train = _Walk(source)
        return Found(train.pictures, None, train.classes, train.ignored, train.notes)
    train, val = _Walk(source / TRAIN), _Walk(named[0]) if named else None
    notes = [f"val is made of {val.root}"] if val and val.root.name != "val" else []
    used = [TRAIN, *(f.name for f in named[:1])]
    if others := sorted(f.name for f in source.iterdir() if f.is_dir() and f.name not in used):
        notes.append(f"not used of {source}: {', '.join(others[:5])}" + (" and others" if len(others) > 5 else ""))
    notes += [*train.notes, *(val.notes if val else ())]
    ignored = train.ignored + (val.ignored if val else 0)
    return Found(train.pictures, val.pictures if val else None, train.classes, ignored, notes)


def _has_folders(folder: Path) -> bool:
    if not folder.is_dir():
        return False
    with os.scandir(folder) as entries:
        return any(_is_folder(e) for e in entries if not e.name.startswith("."))


def _is_folder(entry: os.DirEntry) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


class _Walk:
    """A look through the class folders of a split. pictures: files with an image's suffix, also what reading will
    refuse, such as a link to nowhere or a pipe. ignored: how many other files there are. notes: what is left out."""

    def __init__(self, root: Path):
        self.pictures: list[Picture] = []
        self.classes: list[str] = []
        self.ignored = 0
        self.root, self._outside, self._hidden, self._circles, self._linked = root, [], [], [], []
        self._whole = str(root.resolve())
        above = {_identity(os.stat(folder)) for folder in root.resolve().parents}
        for name, entry in self._files(str(root.absolute()), "", above):
            self._take(name, entry)
        self.classes.sort()

    @property
    def notes(self) -> list[str]:
        pairs = (
            (self._outside, "images in no class folder, left out"),
            (self._hidden, "hidden folders, left out"),
            (self._circles, "links to a folder that they lie in, not followed"),
            (self._linked, "links that lead out of it, followed"),
        )
        return [f"{self.root}: {what}: {len(names):,}, the first {min(names)}" for names, what in pairs if names]

    def _take(self, name: str, entry: os.DirEntry) -> None:
        if not is_image_name(name):
            self.ignored += 1
        elif "/" not in name:
            self._outside.append(name)
        else:
            self._see_link(name, entry)
            try:
                status = entry.stat()
                self.pictures.append(Picture(name, entry.path, 0, status.st_size, status.st_mtime_ns))
            except OSError:  # a link to nowhere: reading says so
                self.pictures.append(Picture(name, entry.path, 0, 0))

    def _see_link(self, name: str, entry: os.DirEntry) -> None:
        """One that leads out brings images of elsewhere into the shards, perhaps unseen: it is told."""
        if entry.is_symlink() and not f"{os.path.realpath(entry.path)}/".startswith(f"{self._whole}/"):
            self._linked.append(name)

    def _files(self, folder: str, prefix: str, above: set[Identity]) -> Iterator[tuple[str, os.DirEntry]]:
        """What is no folder, at any depth. above: the folders on the way here, to which a link would lead back."""
        here = above | {_identity(os.stat(folder))}
        with os.scandir(folder) as entries:
            for entry in entries:
                name = prefix + entry.name
                if not _is_folder(entry):
                    yield name, entry
                elif entry.name.startswith("."):
                    self._hidden.append(name)
                elif entry.is_symlink() and _identity(entry.stat()) in here:
                    self._circles.append(name)
                else:
                    self._see_link(name, entry)
                    if not prefix:
                        self.classes.append(name)
                    yield from self._files(entry.path, f"{name}/", here)


def _identity(status: os.stat_result) -> Identity:
    return status.st_dev, status.st_ino
