"""Weights that are evaluated together: which files they are, and whether they answer to the same images."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from xlatrain.config.schema import Config
from xlatrain.data.dataset import Dataset, open_dataset
from xlatrain.errors import ConfigError, Fault
from xlatrain.preflight.checked import CheckedEvaluation
from xlatrain.preflight.facts import Facts

# Gives the data of an evaluation. Facts: what the weights know of themselves. Raises ConfigError.
OpenData = Callable[[Config, Facts | None], Dataset]

# What the host makes of an image, which all members are shown.
_IMAGE = ("image_size", "interpolation", "eval_padding", "eval_ratio")


def open_of_run(config: Config, facts: Facts | None = None) -> Dataset:
    """The data that the options name."""
    return open_dataset(config.data, config.augment)


def weight_files(weights: Any) -> list[str]:
    """The files that the option `weights` names; none where it names none. Raises ConfigError."""
    files = weights if isinstance(weights, list) else [] if weights is None else [weights]
    if not all(isinstance(file, str) for file in files):
        cure = "give weights=FILE, or for an ensemble weights=[FILE,FILE]"
        raise ConfigError(Fault("weights", f"{weights!r} is no file and no list of files", cure))
    return files


def ensemble_faults(members: Sequence[CheckedEvaluation]) -> list[Fault]:
    """Why evaluations cannot be put together: they are of one file, are shown other images, or mean other classes."""
    first = members[0]
    if len({os.path.abspath(member.config.weights) for member in members}) < len(members):
        return [Fault("weights", "a file is named twice, and would count twice", "name each once")]
    for other in members[1:]:
        for key in _IMAGE:
            one, two = (getattr(member.config.data, key, None) for member in (first, other))
            if one != two:
                problem = f"data.{key} is {one} of {first.config.weights} and {two} of {other.config.weights}"
                return [Fault("weights", problem, f"give data.{key}, or weights that are shown the same images")]
        if first.dataset.num_classes != other.dataset.num_classes:
            counts = f"{first.dataset.num_classes} and {other.dataset.num_classes} classes"
            return [Fault("weights", f"they have {counts}", "take weights of the same classes")]
        if first.dataset.class_names != other.dataset.class_names:
            names = zip(first.dataset.class_names, other.dataset.class_names, strict=False)
            differing = next((f"{a!r} and {b!r}" for a, b in names if a != b), "other")
            problem = f"their classes have other names: {differing}"
            return [Fault("weights", problem, "take weights of the same classes")]
    return []


def as_ensemble(members: Sequence[CheckedEvaluation]) -> CheckedEvaluation:
    """Evaluations of several weights as one, on the images of the first."""
    first = members[0]
    notes = [note for member in members for note in member.notes]
    together = tuple(replace(m, dataset=first.dataset, batch=first.batch, notes=()) for m in members)
    config = replace(first.config, weights=[member.config.weights for member in members])
    return replace(first, config=config, notes=tuple(dict.fromkeys(notes)), members=together)
