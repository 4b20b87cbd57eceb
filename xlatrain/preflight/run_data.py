"""The data that weights were trained with, as the config.yaml beside them says it."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from xlatrain.config.data import DataConfig
from xlatrain.config.schema import VARIANTS, Config

_FILE = "config.yaml"


def with_data_of_run(config: Config, given: Collection[str]) -> tuple[Config, list[str]]:
    """A configuration with the data of the run that its weights lie in, where the command names none and they are
    there, and a note that says so. given: the options that it names. Code of one's own is not believed a file: such
    data have to be named."""
    groups = {key.partition(".")[0] for key in given}
    if groups & {"data", "recipe"} or groups - {f.name for f in dataclasses.fields(Config)}:
        return config, []
    path = Path(config.weights).parent / _FILE
    data = _read(path)
    if data is None or not _is_there(data) or data == config.data:
        return config, []
    root = f", {data.root}" if getattr(data, "root", "") else ""
    return replace(config, data=data), [f"data as in {path}: {data.name}{root}"]


def _read(path: Path) -> DataConfig | None:
    """The data of a run's configuration; None where it is not there, not whole, of another version, or names code."""
    try:
        tree = yaml.safe_load(path.read_text())["data"]
        fields = set(tree)
    except (OSError, ValueError, KeyError, TypeError, yaml.YAMLError):
        return None
    schemas = (s for s in VARIANTS["data"].values() if {f.name for f in dataclasses.fields(s)} == fields)
    if (schema := next(schemas, None)) is None or tree["_target_"] is not None:
        return None
    try:
        return OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(schema), tree))
    except OmegaConfBaseException:
        return None


def _is_there(data: Any) -> bool:
    """Whether data can be where it is said: not behind credentials, which are not written down."""
    root = getattr(data, "root", "")
    return "***" not in root and (not root or "://" in root or Path(root).is_dir())
