"""What the jobs of a sweep came to: a table, the best marked, and a chart beside them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.table import Table

from xlatrain.cli.sweep_chart import Result, draw_results
from xlatrain.cli.sweep_record import Job, summary_of
from xlatrain.cli.sweeper import LESS_IS_BETTER
from xlatrain.cli.tables import fraction
from xlatrain.console import make_console, print_whole

CHART = "sweep.png"


@dataclass(frozen=True)
class Comparison:
    """What the jobs of a sweep came to, in their order. common: the overrides that all have. best: of the values of the
    objective, None where no job has one."""

    common: set[str]
    summaries: list[dict[str, Any]]
    results: list[Result]
    best: float | None


def compare_jobs(folder: Path, jobs: Sequence[Job], objective: str) -> Comparison:
    """Compare the jobs of a sweep by an objective."""
    summaries = [summary_of(folder, job) for job in jobs]
    common = set.intersection(*(set(job.overrides) for job in jobs)) if len(jobs) > 1 else set()
    own = [tuple(text for text in job.overrides if text not in common) for job in jobs]
    results = [Result(texts, _value(s, objective)) for texts, s in zip(own, summaries, strict=True)]
    values = [result.value for result in results if result.value is not None]
    best = (min if objective in LESS_IS_BETTER else max)(values, default=None)
    return Comparison(common, summaries, results, best)


def show_results(folder: Path, jobs: Sequence[Job], objective: str) -> bool:
    """Print the table that ends a sweep, and draw its chart. Returns whether all jobs are done."""
    found = compare_jobs(folder, jobs, objective)
    common, summaries, results, best = found.common, found.summaries, found.results, found.best
    table = Table(box=None, pad_edge=False)
    for heading in ("job", "overrides", "status", "top-1", "top-5", "loss", "images/s", "seconds"):
        table.add_column(heading, overflow="fold" if heading == "overrides" else "ellipsis")
    for job, summary, result in zip(jobs, summaries, results, strict=True):
        shown = _shown(summary)
        if best is not None and result.value == best:
            shown[objective] += " best"
        table.add_row(str(job.number), " ".join(result.overrides), summary["status"], *shown.values())
    console = make_console()
    console.print(f"\n{folder}" + (f": {' '.join(sorted(common))}" if common else ""), soft_wrap=True)
    print_whole(table, console)
    for job, summary in zip(jobs, summaries, strict=True):
        if summary["status"] == "failed":
            console.print(f"job {job.number}: {summary.get('error', '')}", soft_wrap=True)
    if sum(result.value is not None for result in results) > 1:
        draw_results(results, objective, best, folder / CHART)
        console.print(f"drawn to {folder / CHART}", soft_wrap=True)
    return all(summary["status"] == "done" for summary in summaries)


def _value(summary: dict[str, Any], objective: str) -> float | None:
    """What a job came to; None of one that is not done, or whose value was not finite."""
    return summary.get(objective) if summary["status"] == "done" else None


def _shown(summary: dict[str, Any]) -> dict[str, str]:
    """The results of a job that is done, in words."""
    if summary["status"] != "done":
        return {}
    return {
        "top1": fraction(summary["top1"]),
        "top5": fraction(summary["top5"]),
        "loss": fraction(summary["loss"]),
        "images_per_second": str(summary.get("images_per_second", "")),
        "wall_seconds": f"{summary['wall_seconds']:.1f}",
    }
