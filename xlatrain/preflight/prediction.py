"""From a command that names images to a prediction that can be started."""

from __future__ import annotations

import dataclasses
import importlib.util
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from xlatrain.config.data import ShardsConfig
from xlatrain.config.schema import Config
from xlatrain.data.dataset import Dataset
from xlatrain.data.listed import ListedImages, Part
from xlatrain.data.listing import find_images
from xlatrain.data.sharded import read_options
from xlatrain.errors import ConfigError, Fault
from xlatrain.out_path import new_faults
from xlatrain.preflight.check import check_composed, check_evaluation_config
from xlatrain.preflight.checked import CheckedEvaluation, CheckedPrediction
from xlatrain.preflight.facts import Facts
from xlatrain.words import counted

SUFFIXES = (".csv", ".jsonl", ".parquet")


def check_prediction(overrides: Sequence[str], paths: Sequence[str], out: str | None) -> CheckedPrediction:
    """Compose and check a prediction of the images that paths name. Raises ConfigError with every fault found."""
    faults = out_faults(out)
    try:
        evaluation = check_composed(overrides, lambda config, whole: _check(config, overrides, paths, whole))
    except ConfigError as error:
        faults += error.faults
    if faults:
        raise ConfigError(*faults)
    return CheckedPrediction(evaluation, Path(out))


def out_faults(out: str | None) -> list[Fault]:
    """Why nothing can be written to a file of predictions."""
    cure = "give out=FILE.csv, FILE.jsonl or FILE.parquet"
    if not out:
        return [Fault("out", "no file is named", cure)]
    path = Path(out)
    if path.suffix not in SUFFIXES:
        return [Fault("out", f"{out} is of no kind that is written", cure)]
    if faults := new_faults(out, "file"):
        return faults
    if path.suffix == ".parquet" and importlib.util.find_spec("pyarrow") is None:
        return [Fault("out", "Parquet needs pyarrow, which is not installed", "pip install 'xlatrain[parquet]'")]
    return []


def _check(config: Config, overrides: Sequence[str], paths: Sequence[str], whole: bool) -> CheckedEvaluation:
    """Weights, and images, which are looked for once."""
    known: list[tuple[Part, ...]] = []
    others: Counter[str] = Counter()

    def open_data(config: Config, facts: Facts | None) -> Dataset:
        options = _as_images(config)
        if not known:
            known.append(find_images(paths, read_options(options), others))
        names = facts.class_names if facts else ()
        classes = options.num_classes or len(names) or 10
        split = ListedImages(known[0], options, config.augment, classes)
        return Dataset(split, split, num_classes=classes, class_names=tuple(names))

    evaluation = check_evaluation_config(config, overrides, open_data, whole)
    if not others:
        return evaluation
    kinds = ", ".join(f"{count:,} {suffix}" for suffix, count in others.most_common(5))
    note = f"left out of the folders: {counted(others.total(), 'file')} with no name of an image ({kinds})"
    return replace(evaluation, notes=(*evaluation.notes, note))


def _as_images(config: Config) -> ShardsConfig:
    """The options of a run's data that say what is made of an image; damaged ones are told, not raised."""
    data = config.data
    shared = {f.name: getattr(data, f.name) for f in dataclasses.fields(ShardsConfig) if hasattr(data, f.name)}
    return replace(ShardsConfig(**{"root": "", **shared}), name="images", on_error="skip")
