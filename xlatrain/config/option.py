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
) -> Any:
    """A field of the schema: default, explanation, unit, and the values it may take: some choices, low to high, or low
    up to but not `below`."""
    metadata = {"help": help, "unit": unit, "choices": choices, "low": low, "high": high, "below": below}
    if isinstance(default, (dict, list)):
        return field(default_factory=lambda: type(default)(default), metadata=metadata)
    return field(default=default, metadata=metadata)


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
