"""Several plans side by side."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from xlatrain.console import print_whole
from xlatrain.planning.estimate import GIB, Estimate
from xlatrain.planning.terminal import hours, money

HEADINGS = (
    "overrides",
    "fits",
    "memory GiB",
    "device ms",
    "step ms",
    "images/s",
    "all-reduce",
    "MFU",
    "time",
    "USD",
    "spot USD",
)


def print_comparison(jobs: Sequence[Sequence[str]], estimates: Sequence[Estimate], console: Console) -> None:
    """One row a plan; what all have in common stands above; the best fitting ones are marked."""
    own = differing(jobs)
    console.print(" ".join(o for o in jobs[0] if o not in own[0]), style="bold", markup=False)
    table = Table(*HEADINGS, box=None, pad_edge=False)
    table.columns[0].overflow = "fold"
    for overrides, row in zip(own, comparison(estimates), strict=True):
        table.add_row(" ".join(overrides), *row)
    print_whole(table, console)


def differing(jobs: Sequence[Sequence[str]]) -> list[list[str]]:
    """The overrides of each job that not all jobs have."""
    common = set(jobs[0]).intersection(*map(set, jobs[1:])) if len(jobs) > 1 else set()
    return [[o for o in job if o not in common] for job in jobs]


def comparison(estimates: Sequence[Estimate]) -> list[list[str]]:
    """The rows of the table, but for the overrides. Best: the shortest time and the lowest cost among what fits."""
    fitting = [e for e in estimates if e.fits and e.hours is not None]
    fastest = min((e.hours for e in fitting), default=None)
    cheapest = min((e.cost() for e in fitting if e.cost() is not None), default=None)
    rows = []
    for e in estimates:
        spot = e.cost(spot=True)
        rows.append(
            [
                "yes" if e.fits else "NO",
                f"{max(e.train.needed, e.eval.needed) / GIB:.2f} of {e.capacity / GIB:.0f}",
                _number(e.device_ms, ".1f"),
                _number(e.step_ms, ".1f"),
                _number(e.images_per_second, ",.0f"),
                _number(e.allreduce_fraction, ".1%"),
                _number(e.mfu, ".1%"),
                ("?" if e.hours is None else hours(e.hours)) + (" fastest" if e.fits and e.hours == fastest else ""),
                money(e.cost()) + (" cheapest" if e.fits and e.cost() is not None and e.cost() == cheapest else ""),
                money(spot),
            ]
        )
    return rows


def _number(value: float | None, form: str) -> str:
    return "?" if value is None else format(value, form)
