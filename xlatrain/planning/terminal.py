"""A plan in the terminal: what it needs, takes and costs, and where the time goes."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from xlatrain.console import print_whole
from xlatrain.files import last_input_figure
from xlatrain.planning.bounds import Product
from xlatrain.planning.estimate import GIB, Estimate, Memory, bounded_products, idle_lanes, top_ops
from xlatrain.words import counted


def print_estimate(estimate: Estimate, console: Console) -> None:
    """All of it, as tables."""
    console.print(title(estimate), style="bold")
    table = Table(box=None, show_header=False, pad_edge=False)
    for name, value in figures(estimate):
        table.add_row(name, value)
    console.print(table)
    if estimate.train.program:
        print_whole(_kinds(estimate), console)
        print_whole(_parts_of_step(estimate), console)
        print_whole(_ops(estimate), console)
        print_whole(_collectives(estimate), console)
        print_whole(_products(estimate), console)
    for warning in estimate.warnings:
        console.print(f"! {warning}", style="yellow", markup=False)
    for what in estimate.missing:
        console.print(f"not computed: {what}", markup=False)


def title(estimate: Estimate) -> str:
    """What was planned, in a line."""
    config, cluster = estimate.run.config, estimate.cluster
    images = counted(config.train.global_batch // cluster.replicas, "image")
    return (
        f"{config.model.name}, {config.data.image_size} px, {config.precision.name}, {config.optimizer.name}, "
        f"batch {config.train.global_batch:,} on {cluster.accelerator_type or cluster.name} "
        f"({counted(cluster.replicas, 'replica')}, {images} each)"
    )


def figures(estimate: Estimate) -> list[tuple[str, str]]:
    """The main figures, named and with units."""
    e = estimate
    capacity = f" of {e.capacity / GIB:.1f}" if e.capacity else ""
    rows = [("fits", "yes" if e.fits else "NO")]
    for name, step in (("train", e.train), ("eval", e.eval)):
        over = step.needed - e.capacity
        more = f", {over / GIB:.2f} GiB ({over:,} bytes) over" if e.capacity and over > 0 else ""
        rows.append((f"memory, {name} step", f"{step.needed / GIB:.2f}{capacity} GiB{more}"))
        if step.memory:
            rows.append(("", _parts(step.memory)))
    rows.append(("FLOPs a step", f"{e.flops / 1e9:,.1f} G a replica" + _share(", MFU ", e.mfu)))
    rows += [
        ("device time a step", _ms(e.device_ms)),
        ("network time a step", _ms(e.network_ms) + _share(", ", e.allreduce_fraction, " of the step")),
        ("step", _ms(e.step_ms) + (f" ({_ms(e.step_ms_overlapped)} overlapped)" if e.step_ms_overlapped else "")),
        ("evaluation step", _ms(e.eval_ms)),
        ("throughput", _rate(e.images_per_second)),
    ]
    if e.images_per_second and e.cluster.hosts:
        per_host = e.images_per_second / e.cluster.hosts
        per_replica = e.images_per_second / e.cluster.replicas
        rows.append(("input needed", f"{_rate(per_host)} a host, {_rate(per_replica)} a replica"))
        if (figure := last_input_figure()) is not None:
            many = f"{counted(max(1, round(per_host / figure.images_per_second_core)), 'core')} of a host"
            rows.append(
                (
                    "",
                    f"{many} at {_rate(figure.images_per_second_core)} a core (data bench of {figure.date}, "
                    f"{figure.data}, {figure.image_size} px)",
                )
            )
    if e.hours is not None:
        lengths = e.run.lengths
        rows.append(("epochs an hour", f"{e.epochs_per_hour:.1f}"))
        length = (
            f"{counted(round(lengths.epoch(lengths.total_steps)), 'epoch')}, {counted(lengths.total_steps, 'step')}"
        )
        rows.append((length, hours(e.hours)))
    if (cost := e.cost()) is not None:
        spot = e.cost(spot=True)
        more = f", {money(spot)} USD spot" if spot is not None else ""
        rows.append(("cost", f"{money(cost)} USD on demand{more} (prices: {e.cluster.chip.price_date or 'undated'})"))
    return rows


def _parts(memory: Memory) -> str:
    """What a step's memory consists of, in GiB."""
    parts = {
        "arguments": memory.arguments, "results": memory.outputs, "donated": -memory.aliased,
        "temporaries": memory.temporaries, "code": memory.code,
    }  # fmt: skip
    return ", ".join(f"{name} {round(size / GIB, 2) + 0.0:.2f}" for name, size in parts.items())


def hours(value: float) -> str:
    """A duration as people say it."""
    return f"{value * 60:.0f} min" if value < 2 else f"{value:.1f} h"


def money(value: float | None) -> str:
    """An amount, with cents where they matter."""
    return "?" if value is None else f"{value:,.0f}" if value >= 100 else f"{value:.2f}"


def _kinds(estimate: Estimate) -> Table:
    table = Table("device time by kind of op", "ms", "share", box=None, pad_edge=False)
    program = estimate.train.program
    for kind, cycles in program.by_kind().items():
        table.add_row(f"  {kind}", _cycles(estimate, cycles), f"{cycles / program.cycles:.1%}")
    table.add_row("  lanes idle, by time", "", f"{idle_lanes(program):.1%}")
    return table


def _parts_of_step(estimate: Estimate, count: int = 12) -> Table:
    table = Table("device time by part", "ms", "share", box=None, pad_edge=False)
    program = estimate.train.program
    for part, cycles in list(program.by_part().items())[:count]:
        table.add_row(f"  {part}", _cycles(estimate, cycles), f"{cycles / program.cycles:.1%}")
    return table


def _ops(estimate: Estimate, count: int = 12) -> Table:
    table = Table("most expensive ops", "ms", "kind", "op", "result", "lanes", "padding", box=None, pad_edge=False)
    for op in top_ops(estimate.train.program, count):
        table.add_row(
            f"  {op.scope or op.name}", _cycles(estimate, op.cycles), op.kind, op.op, op.shape,
            "" if op.lanes is None else f"{op.lanes}/128", f"{op.padding:.0%}",
        )  # fmt: skip
    return table


def _collectives(estimate: Estimate) -> Table:
    table = Table("collectives", "ms in all", "bytes each", "replicas a group", "count", box=None, pad_edge=False)
    for c, ms in estimate.collectives:
        table.add_row(
            f"  {c.op}", "?" if ms is None else f"{ms:.3f}", f"{c.bytes:,}", f"{c.group_size:,}", str(c.count)
        )
    return table


def _products(estimate: Estimate, count: int = 8) -> Table:
    """Bytes moved, padding included, against the least possible, the worst layers first; of those that have to move
    1 MB at all."""
    table = Table(
        "pointwise and dense products", "ratio", "MB moved", "MB least", "points x in x out", box=None, pad_edge=False
    )
    pairs = bounded_products(estimate.train.program, estimate.cluster)

    def row(name: str, what: str, moved: float, least: float) -> None:
        table.add_row(name, f"{moved / least:.1f}", f"{moved / 1e6:,.0f}", f"{least / 1e6:,.0f}", what)

    for p, least in pairs[:count]:
        row(f"  {p.scope or '?'} {_short(p)}", f"{p.p:,} x {p.c:,} x {p.k:,}", p.moved, least)
    if pairs:
        row(f"  all {len(pairs)} of 1 MB and more", "", sum(p.moved for p, _ in pairs), sum(b for _, b in pairs))
    return table


def _short(product: Product) -> str:
    return "backward" if "backward" in product.op else "forward"


def _cycles(estimate: Estimate, cycles: int) -> str:
    ms = estimate.ms(cycles)
    return f"{cycles:,} cycles" if ms is None else f"{ms:.2f}"


def _ms(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.2f} ms"


def _rate(value: float | None) -> str:
    return "unknown" if value is None else f"{value:,.0f} images/s"


def _share(before: str, value: float | None, after: str = "") -> str:
    return "" if value is None else f"{before}{value:.1%}{after}"
