"""What a run came to, as a table."""

from __future__ import annotations

from typing import Any

from rich.table import Table

from xlatrain.console import make_console

_FRACTIONS = ("top1", "top5", "loss", "calibration_error")


def print_summary(summary: dict[str, Any]) -> None:
    """What a run came to, as a small table."""
    table = Table(box=None, show_header=False, pad_edge=False)
    rows = {
        "top-1": "top1",
        "top-5": "top5",
        "loss": "loss",
        "calibration error": "calibration_error",
        "images evaluated": "eval_examples",
        "images": "images",
        "damaged": "damaged",
        "steps": "steps",
        "replicas": "replicas",
        "images/s": "images_per_second",
        "host ms per step": "host_ms_per_step",
        "waiting for data": "data_wait_fraction",
        "compiles": "compiles",
        "seconds": "wall_seconds",
        "run": "run",
        "written": "out",
    }
    for label, key in rows.items():
        if key in summary:
            value = summary[key]
            table.add_row(label, fraction(value) if key in _FRACTIONS else _text(value))
    if "until" in summary:
        table.add_row(summary["until"], _reached(summary["reached"]))
    make_console().print(table)


def _reached(found: dict[str, Any] | None) -> str:
    """What it took a run to reach what it was to reach."""
    if found is None:
        return "not reached"
    words = f"step {found['step']:,}, {found['images']:,} images, {found['seconds']:,.1f} s"
    return words if found["usd"] is None else f"{words}, {found['usd']:,.2f} USD"


def _text(value: Any) -> str:
    """A value of the summary; of several named ones each, as in "train 1, eval 1"."""
    return ", ".join(f"{k} {v}" for k, v in value.items()) if isinstance(value, dict) else str(value)


def fraction(value: float | None) -> str:
    """Four digits; a value that was not finite is null in JSON."""
    return "nan" if value is None else f"{value:.4f}"
