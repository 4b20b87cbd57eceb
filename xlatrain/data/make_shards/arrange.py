"""From the names in archives to splits and classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from xlatrain.data.make_shards.pictures import TRAIN, VAL_FOLDERS, Picture, renamed
from xlatrain.errors import ConfigError, Fault
from xlatrain.words import counted

_SPLITS = (TRAIN, *VAL_FOLDERS)


def read_labels(path: Path) -> dict[str, str]:
    """Class names by image names, from lines of both."""
    labels = {}
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(Fault("--labels", f"{path} cannot be read: {error}", "image-name class-name")) from None
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        name, _, class_name = line.strip().partition("\t" if "\t" in line else " ")
        if not class_name.strip() or "/" in class_name:
            cure = "write image-name class-name in each line"
            raise ConfigError(Fault("--labels", f"line {number} of {path} is {line[:60]!r}", cure))
        labels[name.rpartition("/")[2]] = class_name.strip()
    return labels


def arrange(pictures: Sequence[Picture], labels: Mapping[str, str], source: Path) -> list[Picture]:
    """The images of one archive as [split/]class/.../file: without a folder around all of them, and when there are no
    class folders, in the classes of their labels."""
    parts = [p.name.split("/") for p in pictures]
    tops = {part[0] for part in parts}
    depth = max(map(len, parts), default=0)
    if depth == 1 or (labels and depth == 2 and len(tops) == 1):
        return _labelled(pictures, labels, source)
    if len(tops) == 1 and not tops & set(_SPLITS) and min(map(len, parts)) > 2:
        return [renamed(p, p.name.partition("/")[2]) for p in pictures]
    return list(pictures)


def _labelled(pictures: Sequence[Picture], labels: Mapping[str, str], source: Path) -> list[Picture]:
    if not labels:
        cure = "give the classes: --labels FILE with lines of image-name class-name"
        raise ConfigError(Fault("SRC", f"{source} has no class folders", cure))
    names = [p.name.rpartition("/")[2] for p in pictures]
    if unknown := [name for name in names if name not in labels]:
        problem = f"it lacks {counted(len(unknown), 'image')} of {source}, the first {unknown[0]}"
        raise ConfigError(Fault("--labels", problem, "add them, or name the right file"))
    return [renamed(p, f"{labels[name]}/{name}") for p, name in zip(pictures, names, strict=True)]


def divide(pictures: Sequence[Picture]) -> tuple[list[Picture], list[Picture] | None, list[str]]:
    """Train, val if there is one, and what the user should know of the choice."""
    tops = {p.name.partition("/")[0] for p in pictures}
    if TRAIN not in tops or not any(_below(pictures, TRAIN, 2)):
        return list(pictures), None, []
    named = [name for name in VAL_FOLDERS if name in tops]
    notes = [f"val is made of {named[0]}/"] if named and named[0] != "val" else []
    notes += [f"{other}/ is not used" for other in sorted(tops - {TRAIN, *named[:1]})]
    return _below(pictures, TRAIN, 2), _below(pictures, named[0], 2) if named else None, notes


def without_split(pictures: Sequence[Picture]) -> list[Picture]:
    """The images of an archive that is all of val, also when it has a val/ around its classes."""
    tops = {p.name.partition("/")[0] for p in pictures}
    top = next(iter(tops), "")
    return _below(pictures, top, 2) if len(tops) == 1 and top in VAL_FOLDERS else list(pictures)


def _below(pictures: Sequence[Picture], folder: str, deep: int) -> list[Picture]:
    """Those under a folder in a class folder, named from there."""
    inside = [p for p in pictures if p.name.startswith(f"{folder}/") and p.name.count("/") >= deep]
    return [renamed(p, p.name.partition("/")[2]) for p in inside]
