"""Values on their own: within the limits of the schema, a folder that can be written."""

from __future__ import annotations

import dataclasses
import difflib
import math
import os
from collections.abc import Iterator
from pathlib import Path

from xlatrain.config.schema import Config
from xlatrain.credentials import masked
from xlatrain.data.storage.access import missing_bucket
from xlatrain.data.storage.streams import check_url
from xlatrain.errors import ConfigError, Fault
from xlatrain.preflight.resolve import too_few_images
from xlatrain.words import counted


def value_faults(config: Config) -> list[Fault]:
    """Values outside what the schema allows."""
    faults = []
    for key, field, value in _flat(config):
        allowed, low, high, below = (field.metadata[k] for k in ("choices", "low", "high", "below"))
        if value is None:
            continue
        null = ", or null" if field.default is None else ""
        if allowed and value not in allowed:
            near = difflib.get_close_matches(str(value), allowed, n=1)
            cure = f"did you mean {key}={near[0]}?" if near else f"take one of these{null}"
            faults.append(Fault(key, f"{value!r} is not one of {', '.join(allowed)}", cure))
        elif isinstance(value, float) and not math.isfinite(value):
            faults.append(Fault(key, f"{value} is no finite number", f"give a finite one{null}"))
        elif low is not None and not (low <= value <= _or_inf(high) and value < _or_inf(below)):
            upper = (
                f" to {high}" if high is not None else f" up to but not {below}" if below is not None else " or more"
            )
            allowed = "more than 0" if 0 < low < 1e-6 else f"{low}{upper}"
            faults.append(Fault(key, f"{value} is out of range", f"take {allowed}{null}"))
    for key, low in (("mean", float("-inf")), ("std", 0.0)):
        values = getattr(config.data, key)
        if len(values) != 3 or not all(low < v < math.inf for v in values):
            what = "three numbers" if key == "mean" else "three numbers above 0"
            faults.append(Fault(f"data.{key}", f"{values} are not {what}, one per channel", "see conf/data"))
    return faults


def _or_inf(limit: float | None) -> float:
    return math.inf if limit is None else limit


def _flat(node: object, prefix: str = "") -> Iterator[tuple[str, dataclasses.Field, object]]:
    """Every option of a configuration with its key, field and value."""
    for field in dataclasses.fields(node):
        value = getattr(node, field.name)
        if dataclasses.is_dataclass(value):
            yield from _flat(value, f"{prefix}{field.name}.")
        elif field.metadata:
            yield prefix + field.name, field, value


def folder_faults(config: Config) -> list[Fault]:
    """Whether the run's folder can be made, without making it."""
    faults = []
    name = config.run.name
    if name is not None and (
        not name.isprintable() or not name or Path(name).is_absolute() or {".", ".."} & set(name.split("/"))
    ):
        faults.append(
            Fault("run.name", f"{name!r} is no name of a folder under run.root", "take letters, digits, - and _")
        )
    if "://" in config.run.root:
        problem = f"{masked(config.run.root)} is no folder of this machine, to which a run writes"
        faults.append(Fault("run.root", problem, "name a local folder, and copy it when the run has ended"))
        return faults
    if not _can_be_made(config.run.root):
        faults.append(Fault("run.root", f"{config.run.root} cannot be written", "name a folder of yours"))
    return faults


def checkpoint_folder_faults(config: Config) -> list[Fault]:
    """Whether checkpoint.folder can be written to, as far as is seen without writing."""
    key, folder = "checkpoint.folder", config.checkpoint.folder
    if folder is None:
        return []
    if "://" not in folder:
        return [] if _can_be_made(folder) else [Fault(key, f"{folder} cannot be written", "name a folder of yours")]
    if folder.startswith(("http://", "https://")):
        return [Fault(key, f"{masked(folder)} cannot be written to", "name a folder, or a gs:// or s3:// URL")]
    try:
        check_url(folder, key)
    except ConfigError as error:
        return list(error.faults)
    missing = missing_bucket(folder, key)
    return [missing] if missing else []


def _can_be_made(folder: str) -> bool:
    root = Path(folder).absolute()
    nearest = next(p for p in (root, *root.parents) if p.exists())
    return nearest.is_dir() and os.access(nearest, os.W_OK)


def batch_faults(config: Config, samples: int | None) -> list[Fault]:
    """Whether a batch divides among replicas and micro-batches. samples: training images, if they are known."""
    batch, replicas, parts = config.train.global_batch, config.cluster.replicas, config.gradient.accumulate
    share = replicas * parts
    if share < 1 or batch < 1 or batch % share == 0:
        return []
    if samples is not None and (fault := too_few_images(config, samples)):
        return [fault]
    most = math.inf if samples is None else samples // share * share
    near = sorted({min(most, max(1, batch // share) * share), min(most, -(-batch // share) * share)})
    return [
        Fault(
            "train.global_batch",
            f"{batch} does not divide among {counted(replicas, 'replica')}"
            + (f" of {parts} micro-batches" if parts > 1 else ""),
            f"take {' or '.join(f'train.global_batch={n}' for n in near)}",
        )
    ]
