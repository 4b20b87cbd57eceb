"""How the samples of a split spread over its classes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from xlatrain.console import say
from xlatrain.data.make_shards.survey import Survey
from xlatrain.errors import ConfigError, Fault
from xlatrain.words import counted, listed

NAMED = 10  # classes in a line


def number_classes(surveys: Sequence[Survey], most: int) -> list[str]:
    """Names of classes for labels that nobody named: 0 to the largest one. Raises ConfigError for more than `most`."""
    fullest = max(surveys, key=lambda s: s.labels.max(initial=-1))
    top = int(fullest.labels.max(initial=-1))
    if top >= most:
        used = np.unique(np.concatenate([s.labels for s in surveys])).size
        key = fullest.keys[int(fullest.labels.argmax())]
        where, classes = f"{key} of {fullest.shard.name}", counted(top + 1, "class")
        problem = f"label {top} ({where}) makes {classes}, {used:,} of them with samples"
        cure = f"mend the label, name the classes by --class-names, or allow it: --max-classes {top + 1}"
        raise ConfigError(Fault("--max-classes", problem, cure))
    return [str(i) for i in range(top + 1)]


def tell_of_classes(split: str, class_names: Sequence[str], surveys: Sequence[Survey]) -> None:
    """Say which classes have no sample, and how many the others have. Labels outside are left to others to name."""
    labels = np.concatenate([s.labels for s in surveys]) if surveys else np.zeros(0, np.int64)
    counts = np.bincount(labels[(labels >= 0) & (labels < len(class_names))], minlength=len(class_names))
    empty = np.flatnonzero(counts == 0)
    if empty.size:
        names = listed([class_names[i] for i in empty.tolist()], NAMED)
        say(f"{split}: {empty.size:,} of {counted(len(class_names), 'class')} without an image: {names}")
    if counts.any():
        least, most = int(counts[counts > 0].min()), int(counts.max())
        each = f"{least:,} to {most:,} images in a class" if least < most else f"{counted(most, 'image')} in each class"
        say(f"{split}: {each}")
