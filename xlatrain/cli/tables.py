"""What a run came to, and the jobs of a sweep, as tables."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from rich.table import Table

from xlatrain.cli.sweep import LESS_IS_BETTER
from xlatrain.console import make_console, print_whole
from xlatrain.errors import EXIT_DONE, EXIT_FAILED


def print_summary(summary: dict[str, Any]) -> None:
    """What a run came to, as a small table."""
    table = Table(box=None, show_header=False, pad_edge=False)
    rows = {
        "top-1": "top1",
        "top-5": "top5",
        "loss": "loss",
        "images evaluated": "eval_examples",
        "steps": "steps",
        "replicas": "replicas",
        "images/s": "images_per_second",
        "host ms per step": "host_ms_per_step",
        "waiting for data": "data_wait_fraction",
        "compiles": "compiles",
        "seconds": "wall_seconds",
        "run": "run",
    }
    for label, key in rows.items():
        if key in summary:
            value = summary[key]
            table.add_row(label, _fraction(value) if key in ("top1", "top5", "loss") else _text(value))
    make_console().print(table)


def _text(value: Any) -> str:
    """A value of the summary; of several named ones each, as in "train 1, eval 1"."""
    return ", ".join(f"{k} {v}" for k, v in value.items()) if isinstance(value, dict) else str(value)


def _fraction(value: float | None) -> str:
    """Four digits; a value that was not finite is null in JSON."""
    return "nan" if value is None else f"{value:.4f}"


def print_results(folder: Path, objective: str) -> int:
    """The table that ends a sweep, the best marked. Returns the exit code."""
    files = sorted(folder.glob("*/summary.json"), key=lambda p: int(p.parent.name))
    summaries = [json.loads(p.read_text()) for p in files]
    values = [s[objective] for s in summaries if s["status"] == "done" and s[objective] is not None]
    best = (min if objective in LESS_IS_BETTER else max)(values, default=None)
    common = set.intersection(*(set(s["overrides"]) for s in summaries)) if len(summaries) > 1 else set()
    table = Table(box=None, pad_edge=False)
    for heading in ("job", "overrides", "status", "top-1", "top-5", "loss", "images/s", "seconds"):
        table.add_column(heading, overflow="fold" if heading == "overrides" else "ellipsis")
    for s in summaries:
        own = " ".join(o for o in s["overrides"] if o not in common)
        results = []
        if s["status"] == "done":
            shown = {
                "top1": _fraction(s["top1"]),
                "top5": _fraction(s["top5"]),
                "loss": _fraction(s["loss"]),
                "images_per_second": str(s.get("images_per_second", "")),
                "wall_seconds": f"{s['wall_seconds']:.1f}",
            }
            if best is not None and s[objective] == best:
                shown[objective] += " best"
            results = list(shown.values())
        table.add_row(Path(s["run"]).name, own, s["status"], *results)
    console = make_console()
    console.print(f"\n{folder}" + (f": {' '.join(sorted(common))}" if common else ""))
    print_whole(table, console)
    for s in summaries:
        if s["status"] != "done":
            console.print(f"job {Path(s['run']).name}: {s.get('error', s['status'])}", soft_wrap=True)
    return EXIT_DONE if summaries and all(s["status"] == "done" for s in summaries) else EXIT_FAILED
