"""The page on a sweep: a table of its jobs, the best, parallel coordinates, curves."""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass

from xlatrain.page import Markup, begin, table
from xlatrain.reporting import chart, parallel, parts
from xlatrain.reporting.parallel import Trial, parallel_coordinates
from xlatrain.reporting.record import Record
from xlatrain.reporting.words import NOT_KNOWN, fraction, rate

_CURVES = 16  # jobs whose curves are shown: more could not be told apart


@dataclass(frozen=True)
class Job:
    """overrides: those that others have not. value: of the objective, None of a job that is not done. record: None of
    one that was not begun."""

    number: int
    overrides: tuple[str, ...]
    status: str
    value: float | None
    record: Record | None


def sweep_page(name: str, common: Sequence[str], jobs: Sequence[Job], objective: str, best: float | None) -> str:
    """HTML that needs nothing but itself. common: the overrides that all jobs have. best: the value that is marked."""
    done = sum(job.status == "done" for job in jobs)
    winners = [job for job in jobs if best is not None and job.value == best]
    begun = [job.record for job in jobs if job.record]
    shown = _to_show(jobs, winners)
    found = [
        begin(f"xlatrain: {name}", chart.STYLE + parallel.STYLE),
        f"<h1>{html.escape(name)}</h1>",
        f"<p>{done:,} of {len(jobs):,} jobs are done.{_best(winners, objective)}</p>",
        f"<p class=command><code>{html.escape(' '.join(common))}</code></p>" if common else "",
        _parallel(jobs, objective, winners),
        _table(jobs, best),
        _curves(shown, len(jobs)),
        parts.machines(begun[:1]) if begun else "",
    ]
    return "\n".join(part for part in found if part) + "\n"


def _best(winners: Sequence[Job], objective: str) -> str:
    if not winners:
        return " None has a result yet."
    first = winners[0]
    others = f", and {len(winners) - 1} more with the same" if len(winners) > 1 else ""
    what = html.escape(" ".join(first.overrides) or "no override of its own")
    return f" Best by {objective}: job {first.number}, {_value(first.value, objective)}, <code>{what}</code>{others}."


def _value(value: float | None, objective: str) -> str:
    if value is None:
        return NOT_KNOWN
    return f"{value:,.1f}" if objective in ("images_per_second", "wall_seconds") else fraction(value)


def _table(jobs: Sequence[Job], best: float | None) -> str:
    rows = []
    for job in jobs:
        summary = job.record.summary if job.record and job.status == "done" else {}
        error = job.record.said if job.record and job.status == "failed" else ""
        mark = Markup("<b>best</b>") if best is not None and job.value == best else error
        cells = (fraction(summary.get("top1")), fraction(summary.get("loss")), rate(summary.get("images_per_second")))
        seconds = summary.get("wall_seconds")
        rows.append(
            (job.number, Markup(f"<code>{html.escape(' '.join(job.overrides))}</code>"), job.status, *cells,
             NOT_KNOWN if seconds is None else f"{seconds:,.1f}", mark)
        )  # fmt: skip
    headings = ("job", "overrides", "status", "top-1", "loss", "images/s", "seconds", "")
    return f"<h2>Jobs</h2>{table(headings, rows, numbers=(3, 4, 5, 6))}"


def _parallel(jobs: Sequence[Job], objective: str, winners: Sequence[Job]) -> str:
    options = [dict(text.partition("=")[::2] for text in job.overrides) for job in jobs]
    swept = [key for key in dict.fromkeys(k for o in options for k in o) if len({o.get(key) for o in options}) > 1]
    trials = [
        Trial(
            f"job {job.number}: {' '.join(job.overrides)}: {_value(job.value, objective)}",
            (*(own.get(key) for key in swept), None if job.value is None else repr(job.value)),
            best=job in winners,
        )
        for job, own in zip(jobs, options, strict=True)
    ]
    drawing = parallel_coordinates([*swept, objective], trials)
    return f"<h2>Options and {objective}</h2>{drawing}" if drawing else ""


def _to_show(jobs: Sequence[Job], winners: Sequence[Job]) -> list[Record]:
    """The runs whose curves are drawn: the best first, then the others in their order."""
    order = [*winners, *(job for job in jobs if job not in winners)]
    return [job.record for job in order if job.record and job.record.train][:_CURVES]


def _curves(records: Sequence[Record], jobs: int) -> str:
    note = f"<p class=made>The best and the first of the others, {len(records)} of {jobs}.</p>"
    return parts.curves(records) + (note if len(records) < jobs and records else "")
