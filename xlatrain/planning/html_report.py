"""A plan as an HTML page: the figures, charts of where time and memory go, for a sweep throughput against cores."""

from __future__ import annotations

import html
import io
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from xlatrain.drawing import pyplot
from xlatrain.page import begin, made_by, table
from xlatrain.planning.estimate import GIB, Estimate, bounded_products, top_ops
from xlatrain.planning.table import HEADINGS, comparison, differing
from xlatrain.planning.terminal import figures, title

# Matplotlib draws black on white, which is turned round in the dark. On a narrow screen its text would be too small.
_STYLE = """
.chart{overflow-x:auto}.chart svg{min-width:32rem;max-width:52rem;width:100%}
@media(prefers-color-scheme:dark){.chart svg{filter:invert(.91) hue-rotate(180deg)}}
"""


def write_page(
    estimates: Sequence[Estimate], jobs: Sequence[Sequence[str]], origin: Mapping[str, Any], path: Path
) -> None:
    """Write the page; it needs nothing but itself. jobs: the overrides of each plan; origin: command and versions."""
    parts = [begin(_heading(estimates), _STYLE), f"<p class=command><code>{html.escape(origin['command'])}</code></p>"]
    if len(estimates) > 1:
        parts += [
            "<h1>Plans compared</h1>",
            table(
                HEADINGS, [[" ".join(own), *r] for own, r in zip(differing(jobs), comparison(estimates), strict=True)]
            ),
        ]
        parts.append(_cores_chart(estimates))
    for estimate, job in zip(estimates, jobs, strict=True):
        parts += _one(estimate)
        if len(estimates) > 1:
            parts.append(f"<p><code>xlatrain plan {html.escape(' '.join(job))}</code></p>")
    parts.append(made_by(origin))
    path.write_text("\n".join(parts))


def _heading(estimates: Sequence[Estimate]) -> str:
    return title(estimates[0]) if len(estimates) == 1 else "Plans compared"


def _one(estimate: Estimate) -> list[str]:
    program, ms = estimate.train.program, estimate.ms
    parts = [f"<h1>{html.escape(title(estimate))}</h1>", table((), figures(estimate))]
    parts += [f"<p class=warning>{html.escape(text)}</p>" for text in estimate.warnings]
    parts += [f"<p>Not computed: {html.escape(text)}</p>" for text in estimate.missing]
    if program is None or estimate.device_ms is None:
        return parts
    kinds = {kind: ms(cycles) for kind, cycles in program.by_kind().items()}
    kinds |= {"network": estimate.network_ms} if estimate.network_ms is not None else {}
    parts += ["<h2>Where a step's time goes</h2>", _bars(kinds, "ms")]
    if memory := estimate.train.memory:
        sizes = {"temporaries": memory.temporaries, "arguments": memory.arguments, "code": memory.code,
                 "results not donated": memory.outputs - memory.aliased}  # fmt: skip
        sizes |= {"free": max(0, estimate.capacity - memory.total)}
        parts += ["<h2>Memory of a replica</h2>", _bars({k: v / GIB for k, v in sizes.items()}, "GiB")]
    rows = [
        (
            op.scope or op.name,
            op.kind,
            op.op,
            op.shape,
            "" if op.lanes is None else f"{op.lanes}/128",
            f"{ms(op.cycles):.2f}",
        )
        for op in top_ops(program, 30)
    ]
    parts += ["<h2>Most expensive ops</h2>", table(("module", "kind", "op", "result", "lanes", "ms"), rows)]
    largest = {part: ms(cycles) for part, cycles in list(program.by_part().items())[:24]}
    parts += ["<h2>By part of the model and of the step</h2>", _bars(largest, "ms")]
    rows = [
        (c.op, f"{c.bytes:,}", f"{c.group_size:,}", c.count, "?" if t is None else f"{t:.3f}")
        for c, t in estimate.collectives
    ]
    parts += ["<h2>Collectives</h2>", table(("op", "bytes each", "replicas a group", "count", "ms in all"), rows)]
    rows = [
        (p.scope, p.op, f"{p.p:,} x {p.c:,} x {p.k:,}", f"{p.moved / 1e6:,.1f}", f"{least / 1e6:,.1f}",
         f"{p.moved / least:.1f}")
        for p, least in bounded_products(program, estimate.cluster)
    ]  # fmt: skip
    headings = ("module", "op", "points x in x out", "MB moved", "MB least", "ratio")
    return [*parts, "<h2>Pointwise and dense products against their lower bound</h2>", table(headings, rows)]


def _bars(values: dict[str, float], unit: str) -> str:
    """A horizontal bar for each value."""
    figure, axes = pyplot().subplots(figsize=(8, 0.5 + 0.3 * len(values)), layout="constrained")
    names = list(values)[::-1]
    bars = axes.barh(names, [values[n] for n in names], color="#4878a8")
    axes.bar_label(bars, [f"{values[n]:.2f}" for n in names], padding=3)
    axes.set_xlabel(unit)
    axes.spines[["top", "right"]].set_visible(False)
    return _svg(figure)


def _cores_chart(estimates: Sequence[Estimate]) -> str:
    """Throughput and share of all-reduce against replicas."""
    known = sorted((e for e in estimates if e.images_per_second), key=lambda e: e.cluster.replicas)
    if not known:
        return ""
    figure, (left, right) = pyplot().subplots(1, 2, figsize=(9, 3.5), layout="constrained")
    lines: dict[str, list[Estimate]] = defaultdict(list)
    for e in known:
        lines[f"{e.run.config.model.name}, {e.cluster.chip.name}"].append(e)
    for label, line in lines.items():
        replicas = [e.cluster.replicas for e in line]
        left.plot(replicas, [e.images_per_second for e in line], "o-", label=label)
        right.plot(replicas, [100 * (e.allreduce_fraction or 0) for e in line], "o-", label=label)
    left.set(xlabel="replicas", ylabel="images/s", xscale="log", yscale="log")
    right.set(xlabel="replicas", ylabel="% of the step in collectives", xscale="log", ylim=(0, None))
    left.legend(fontsize="small")
    return _svg(figure)


def _svg(figure) -> str:
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg")
    pyplot().close(figure)
    drawing = buffer.getvalue()
    return f"<div class=chart>{drawing[drawing.index('<svg') :]}</div>"
