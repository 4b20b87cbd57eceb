"""How a dataclass describes its options: type and default as Python has them, unit, help and limits beside them."""

from __future__ import annotations

import dataclasses
import typing
from dataclasses import field
from typing import Any


def option(
    default: Any,
    help: str,
    unit: str = "",
    choices: tuple = (),
    low: float | None = None,
    high: float | None = None,
    below: float | None = None,
    may_change: bool = False,
) -> Any:
    """A field of the schema: default, explanation, unit, and the values it may take: some choices, low to high, or low
    up to but not `below`. may_change: a run that goes on from a checkpoint may have another value than before."""
    metadata = {"help": help, "unit": unit, "choices": choices, "low": low, "high": high, "below": below}
    metadata["may_change"] = may_change
    if isinstance(default, (dict, list)):
        return field(default_factory=lambda: type(default)(default), metadata=metadata)
    return field(default=default, metadata=metadata)


def group(schema: type, may_change: bool = False) -> Any:
    """A part of the schema that has options of its own. may_change: of all of them."""
    return field(default_factory=schema, metadata={"may_change": may_change})


def settings(config: Any, prefix: str = "", may_change: bool = False) -> dict[str, tuple[Any, bool]]:
    """Every option of a configuration by its dotted key: its value, and whether it may change when a run goes on."""
    found: dict[str, tuple[Any, bool]] = {}
    for f in dataclasses.fields(config):
        value, free = getattr(config, f.name), may_change or f.metadata.get("may_change", False)
        if dataclasses.is_dataclass(value):
            found |= settings(value, f"{prefix}{f.name}.", free)
        else:
            found[prefix + f.name] = (value, free)
    return found


def options(schema: type, prefix: str = "") -> list[tuple[str, dataclasses.Field]]:
    """All options of a schema as (dotted key, field), sub-schemas expanded."""
    rows: list[tuple[str, dataclasses.Field]] = []
    types = typing.get_type_hints(schema)
    for f in dataclasses.fields(schema):
        sub = f.default_factory if f.default_factory is not dataclasses.MISSING else None
        if f.default is None and not f.metadata:
            sub = typing.get_args(types[f.name])[0]  # a sub-schema that may be null
        if sub is not None and dataclasses.is_dataclass(sub):
            rows += options(sub, f"{prefix}{f.name}.")
        elif f.metadata:
            rows.append((prefix + f.name, f))
    return rows
