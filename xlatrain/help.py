"""`xlatrain VERB --help`: the options, from the schema."""

from __future__ import annotations

import dataclasses

from omegaconf import DictConfig, OmegaConf
from rich.table import Table

from xlatrain.compose import compose_config, groups, register_schemas
from xlatrain.config import VARIANTS, Config
from xlatrain.errors import EXIT_DONE
from xlatrain.schema import options
from xlatrain.telemetry.console import make_console


def print_options(verb: str, what: str) -> int:
    """Print groups and options with type, default, unit and help."""
    console = make_console()
    console.print(f"{what}\n")
    console.print("Choices, as in `optimizer=lars`:")
    for group, names in groups().items():
        console.print(f"  {group:10} {', '.join(names)}")
    console.print()
    register_schemas()
    _, composed = compose_config([])
    table = Table("option", "type", "default", "what it is", box=None, pad_edge=False)
    for key, field in _all_options():
        help = field.metadata["help"]
        allowed = field.metadata["choices"]
        unit = field.metadata["unit"]
        notes = f" ({unit})" if unit else ""
        notes += f"; one of {', '.join(allowed)}" if allowed else ""
        table.add_row(key, _type(field), _default(key, field, composed), help + notes)
    console.print(table)
    return EXIT_DONE


def _all_options() -> list[tuple[str, dataclasses.Field]]:
    rows = options(Config)
    for group, variants in VARIANTS.items():
        seen: set[str] = set()
        for name, variant in variants.items():
            for field in dataclasses.fields(variant):
                if field.metadata and field.name not in seen:
                    seen.add(field.name)
                    common = all(field.name in {f.name for f in dataclasses.fields(v)} for v in variants.values())
                    rows.append((f"{group}.{field.name}" + ("" if common else f"  [{name}]"), field))
    return rows


def _type(field: dataclasses.Field) -> str:
    return str(getattr(field.type, "__name__", field.type)).replace("| None", "or null")


def _default(key: str, field: dataclasses.Field, composed: DictConfig) -> str:
    """What an option is when nothing is overridden: in the default choices, else in the schema."""
    value = OmegaConf.select(composed, key)
    if value is None and field.default_factory is not dataclasses.MISSING:
        value = field.default_factory()
    elif value is None:
        value = field.default
    return {"???": "by choice", "None": "null"}.get(str(value), str(value))
