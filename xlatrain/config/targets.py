"""Parts of one's own: a group's `_target_` names what takes its place, found by its dotted name as Hydra finds it.

Looked at before anything starts by preflight/model.py, preflight/own_optimizer.py and data/own_data.py; made, where a
run needs them, by models/create.py, optim/create.py and data/own_data.py.
"""

from __future__ import annotations

import dataclasses
import pkgutil
from collections.abc import Callable, Collection
from typing import Any

from omegaconf import DictConfig, OmegaConf

from xlatrain.config.data import OwnDataConfig
from xlatrain.config.schema import ModelConfig, OptimizerConfig
from xlatrain.errors import Fault, in_a_line

# The groups that have a _target_, and which of their options count once it is given.
OWN: dict[str, type] = {"model": ModelConfig, "optimizer": OptimizerConfig, "data": OwnDataConfig}


def settle_own_parts(composed: DictConfig) -> None:
    """Leave, where a group has a _target_, only the options that count, in place. Its name is the last part of that."""
    for group, schema in OWN.items():
        node = OmegaConf.select(composed, group)
        if node is None or not node.get("_target_"):
            continue
        known = {field.name for field in dataclasses.fields(schema)}
        kept = {key: value for key, value in OmegaConf.to_container(node).items() if key in known}
        kept["name"] = str(node["_target_"]).rpartition(".")[2]
        composed[group] = OmegaConf.merge(OmegaConf.structured(schema), kept)


def uncounted(composed: DictConfig, given: Collection[str]) -> list[Fault]:
    """Options that a command gives and that do not count beside a _target_."""
    faults = []
    for group, schema in OWN.items():
        if OmegaConf.select(composed, f"{group}._target_"):
            known = {f"{group}.{field.name}" for field in dataclasses.fields(schema)}
            for key in sorted(k for k in given if k.startswith(f"{group}.") and k.count(".") == 1 and k not in known):
                cure = f"leave it out, or pass it on: +{group}.kwargs.{key.partition('.')[2]}=..."
                faults.append(Fault(key, f"does not count beside {group}._target_", cure))
    return faults


def find_part(target: str) -> Callable[..., Any]:
    """The class or function that a dotted name stands for. Raises ValueError."""
    try:
        part = pkgutil.resolve_name(target)
    except Exception as error:  # whatever the import of somebody's module raises
        raise ValueError(f"{type(error).__name__}: {in_a_line(error)}") from error
    if not callable(part):
        raise ValueError(f"it is a {type(part).__name__}, no class or function")
    return part
