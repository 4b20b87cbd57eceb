"""The parts of a page on runs, each from records to HTML; "" where there is nothing to show."""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import replace

from xlatrain.engine.spent import PLACES
from xlatrain.page import Markup, escaped, table
from xlatrain.reporting.accuracy import dollars_per_hour, levels, seconds_to
from xlatrain.reporting.chart import legend, line_chart, named, stacked_bar
from xlatrain.reporting.curves import Curve, points
from xlatrain.reporting.limit import sentences
from xlatrain.reporting.record import Record, number
from xlatrain.reporting.words import NOT_KNOWN, dollars, duration, fraction, option, rate, state
from xlatrain.words import counted

_ALL_POINTS, _MOST_POINTS, _LEAST_POINTS = 12_000, 400, 24  # of one chart, and of one curve
_MOST_EVENTS, _MOST_OPS = 40, 10
_ROUTINE = ("checkpoint", "done")  # events of a run in which all is well


def overview(records: Sequence[Record]) -> str:
    """What each run came to."""
    headings = ("run", "state", "step", "top-1", "images/s", "time", "cost")
    rows = []
    for i, r in enumerate(records):
        seconds = sum(r.spent.values()) or None
        name = named(i, r.name) if len(records) > 1 else r.name
        rows.append(
            (name, r.status, f"{r.step:,}", fraction(r.top1), rate(r.images_per_second), duration(seconds),
             dollars(r, seconds))
        )  # fmt: skip
    return table(headings, rows, numbers=(2, 3, 4, 5, 6))


def remarks(records: Sequence[Record]) -> str:
    """How each run is, and what the page cannot show of it."""
    found = []
    for r in records:
        texts = [state(r)] if len(records) == 1 or r.status != "done" else []
        bad = r.status in ("failed", "died", "never begun")
        if r.damaged:
            texts.append(f"Left out: {counted(r.damaged, 'line')} of metrics.jsonl that could not be read.")
        if not r.train:
            texts.append("It has logged no step: there are no curves.")
        elif not r.eval and r.top1 is None:
            texts.append("It has not been evaluated: there is no accuracy to show.")
        if r.train and "loss" in r.train[-1] and number(r.train[-1]["loss"]) is None:
            texts.append("Its loss is no number in the end: it has diverged, as it does of too high a learning rate.")
            bad = True
        if r.train and not r.spent:
            texts.append("It does not say where its time went: it was made by an earlier version.")
        name = f"{r.name}: " if len(records) > 1 else ""
        if texts:
            found.append(f"<p{' class=warning' if bad or r.damaged else ''}>{escaped(name + ' '.join(texts))}</p>")
    return "".join(found)


def curves(records: Sequence[Record]) -> str:
    """Loss, accuracy, learning rate and throughput, all runs laid over each other."""
    most = max(_LEAST_POINTS, min(_MOST_POINTS, _ALL_POINTS // max(1, len(records))))

    def of(name: str, kind: str = "train", faint: bool = False) -> list[Curve]:
        return [
            Curve(i, f"{r.name}, {kind}", points(getattr(r, kind), name, most), dots=kind == "eval", faint=faint)
            for i, r in enumerate(records)
        ]

    marks = [(float(line["epoch"]), line["event"]) for r in records[:1] for line in r.events if _is_notable(line)]
    marks = marks[:_MOST_EVENTS] if len(records) == 1 else []
    charts = [
        line_chart("loss", [*of("loss", faint=True), *of("loss", "eval")], "line: training; dots: evaluation", log=True,
                   marks=marks),
        line_chart("top-1", [*of("top1", faint=True), *of("top1", "eval")], "line: training; dots: evaluation"),
        line_chart("learning rate", of("lr"), zero=True),
        line_chart("throughput", [_known(curve) for curve in of("images_per_second")], "images/s", zero=True),
    ]  # fmt: skip
    drawn = "".join(f"<div>{chart}</div>" for chart in charts if chart)
    names = legend([r.name for r in records]) if len(records) > 1 else ""
    return f"<h2>Curves</h2>{names}<div class=charts>{drawn}</div>" if drawn else ""


def _known(curve: Curve) -> Curve:
    """A rate without its first points where a run did not know it yet, which are 0."""
    return replace(curve, points=tuple(point for point in curve.points if point[1] > 0))


def time_spent(records: Sequence[Record]) -> str:
    """Where the wall time of each run went, and what limits it."""
    known = [r for r in records if r.spent]
    if not known:
        return ""
    parts = ["<h2>Where the time went</h2>", legend([_place(place) for place in PLACES])]
    for r in known:
        total = sum(r.spent.values())
        parts.append(f"<h3>{html.escape(r.name)}</h3>" if len(records) > 1 else "")
        parts.append(stacked_bar({_place(place): seconds for place, seconds in r.spent.items()}))
        parts += [f"<p>{_code(text)}</p>" for text in sentences(r.spent, r.options)]
        if len(records) == 1:
            rows = [
                (named(i, _place(p)), f"{seconds:,.1f}", f"{seconds / total:.1%}", _MEANING[p])
                for i, (p, seconds) in enumerate(r.spent.items())
            ]
            parts.append(table(("", "seconds", "share", ""), rows, numbers=(1, 2)))
    if len(records) > 1:
        rows = [(r.name, *(f"{s / sum(r.spent.values()):.1%}" for s in r.spent.values())) for r in known]
        parts.append(table(("run", *map(_place, PLACES)), rows, numbers=range(1, len(PLACES) + 1)))
    return "".join(parts)


_MEANING = {
    "starting": "processes, building, data workers up to the first batch",
    "compile": "tracing and compiling steps",
    "data": "no batch was ready, and the device had nothing to do",
    "device": "waiting for it to run steps, other replicas with them",
    "host": "the rest of the loop: Python, dispatch, logging",
    "evaluation": "its steps and its data",
    "saving": "checkpoints as far as they are waited for, weights, profiles",
}


def _place(place: str) -> str:
    return {"host": "host (Python)", "starting": "start"}.get(place, place)


def _code(text: str) -> Markup:
    """HTML of a text in which code stands between backticks."""
    words = html.escape(text).split("`")
    return Markup("".join(f"<code>{part}</code>" if i % 2 else part for i, part in enumerate(words)))


def to_accuracy(records: Sequence[Record]) -> str:
    """Time and cost up to accuracies that were reached."""
    rows = [(f"{level:.4g}", *(_reached(r, level) for r in records)) for level in levels(records)]
    if not rows:
        return ""
    heads = ("time",) if len(records) == 1 else [named(i, r.name) for i, r in enumerate(records)]
    dates = sorted({str(d) for r in records if (d := r.options.get("cluster.chip.price_date"))})
    notes = [
        "From the start of the replicas to the end of the first evaluation that reached it; steps lost with a process "
        "that was killed are not counted.",
        "No cost: the cluster has no price (cluster.chip.price_on_demand)."
        if all(dollars_per_hour(r.options) is None for r in records)
        else f"Prices: {', '.join(dates) or 'of an unknown date'}.",
    ]
    said = f"<p class=made>{html.escape(' '.join(notes))}</p>"
    return f"<h2>Time and cost to accuracy</h2>{table(('top-1', *heads), rows)}{said}"


def _reached(record: Record, level: float) -> str:
    """When a run had reached a top-1, and what it had cost by then."""
    if not any((number(line.get("top1")) or 0.0) >= level for line in record.eval):
        return "not reached"
    seconds = seconds_to(record, level)
    cost = dollars(record, seconds)
    return duration(seconds) + ("" if cost == NOT_KNOWN else f", {cost}")


def _is_notable(line: dict) -> bool:
    return line.get("event") not in _ROUTINE


def events(records: Sequence[Record]) -> str:
    """What happened on the way."""
    rows, left, saved = [], 0, 0
    for i, r in enumerate(records):
        name = (named(i, r.name),) if len(records) > 1 else ()
        notable = [line for line in r.events if _is_notable(line)]
        left += max(0, len(notable) - _MOST_EVENTS)
        saved += sum(line.get("event") == "checkpoint" for line in r.events)
        for line in notable[:_MOST_EVENTS]:
            more = {k: v for k, v in line.items() if k not in ("kind", "step", "epoch", "event")}
            words = ", ".join(f"{k.replace('_', ' ')} {_short(v)}" for k, v in more.items())
            event = str(line.get("event", "?")).replace("_", " ")
            rows.append((*name, f"{int(line['step']):,}", f"{line['epoch']:.2f}", event, words))
    if not any(r.events or r.train for r in records):
        return ""
    headings = (*(("run",) if len(records) > 1 else ()), "step", "epoch", "event", "")
    shown = table(headings, rows) if rows else "<p>Nothing out of the ordinary.</p>"
    more = f"<p class=made>And {left:,} more, in metrics.jsonl.</p>" if left else ""
    return f"<h2>Events</h2>{shown}{more}<p class=made>{counted(saved, 'checkpoint')} saved.</p>"


def _replicas(record: Record) -> str:
    found = record.options.get("cluster.replicas")
    return counted(found, "replica") if isinstance(found, int) else "? replicas"


def _short(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def differing_options(records: Sequence[Record]) -> str:
    """Options that are not the same in all runs, but for their names."""
    keys = dict.fromkeys(key for r in records for key in r.options)
    rows = []
    for key in keys:
        values = [option(r.options[key]) if key in r.options else NOT_KNOWN for r in records]
        if len(set(values)) > 1 and key != "run.name":
            rows.append((Markup(f"<code>{html.escape(key)}</code>"), *values))
    body = table(("option", *(named(i, r.name) for i, r in enumerate(records))), rows) if rows else "<p>None.</p>"
    return f"<h2>Options in which they differ</h2>{body}"


def dearest_ops(record: Record) -> str:
    """The table of a profile."""
    found = record.profile
    if not found:
        return ""
    rows = [
        (op["scope"] or "(compiler)", op["operation"], Markup(f"<code>{html.escape(op['name'])}</code>"),
         f"{op['ms']:.3f}", f"{op['ms'] / found['ms_per_step']:.1%}")
        for op in found["ops"][:_MOST_OPS]
    ]  # fmt: skip
    note = f"Of steps {found['first_step']:,} to {found['last_step']:,}, a step of a replica; sums over its threads."
    shown = table(("module", "op", "in the program", "ms", "share"), rows, numbers=(3, 4))
    return f"<h2>Dearest ops</h2><p class=made>{note}</p>{shown}"


def all_options(record: Record) -> str:
    """Every option of a run, folded up."""
    rows = [(Markup(f"<code>{html.escape(key)}</code>"), option(value)) for key, value in record.options.items()]
    what = f"<summary>All {len(rows):,} options</summary>{table((), rows)}"
    return f"<h2>Options</h2><details>{what}</details>" if rows else ""


def machines(records: Sequence[Record]) -> str:
    """What each run ran on, by which versions, and by which command."""
    rows, seen = [], {}
    for r in records:
        host, versions = r.origin.get("host", NOT_KNOWN), r.origin.get("versions")
        cluster = f"{r.options.get('cluster.name', NOT_KNOWN)}, {_replicas(r)}"
        made = ", ".join(f"{k} {v}" for k, v in versions.items()) if isinstance(versions, dict) else NOT_KNOWN
        commit = str(r.origin.get("commit", ""))[:12] + (" modified" if r.origin.get("modified") else "")
        rows.append((r.name, f"{host}: {r.origin.get('machine', NOT_KNOWN)}", cluster, made, commit))
        seen.setdefault(r.origin.get("command"), []).append(r.name)
    parts = ["<h2>Machine and versions</h2>", table(("run", "machine", "cluster", "versions", "commit"), rows)]
    parts += [f"<p class=command><code>{html.escape(command)}</code></p>" for command in seen if command]
    return "".join(parts)
