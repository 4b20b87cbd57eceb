"""`xlatrain shards info`: what the index of a data set says, as a table."""

from __future__ import annotations

from rich.table import Table

from xlatrain.console import make_console, print_whole
from xlatrain.data.clustering import describe_clustering
from xlatrain.data.make_shards.classes import NAMED
from xlatrain.data.make_shards.index import show_problems
from xlatrain.data.make_shards.pictures import VAL
from xlatrain.data.make_shards.splits import open_splits
from xlatrain.data.shard_format import ShardIndex
from xlatrain.errors import EXIT_DONE, EXIT_FAILED
from xlatrain.words import counted, listed

_COLUMNS = ("split", "shards", "samples", "bytes", "bytes per sample", "classes", "smallest shard", "largest shard")


def info(url: str) -> int:
    """Returns the exit code. Raises ConfigError when there is no index."""
    opened, table, console = open_splits(url), Table(box=None, pad_edge=False), make_console()
    for column in _COLUMNS:
        table.add_column(column, justify="left" if column == "split" else "right")
    for name, index in opened.splits.items():
        table.add_row(name, *_row(index))
    print_whole(table, console)
    for name, index in opened.splits.items():
        console.print(f"{name}: {listed(index.class_names, NAMED)}", soft_wrap=True)
        for missing in _missing(index):
            console.print(f"{name}: {missing}", soft_wrap=True)
        if name != VAL and (text := describe_clustering(index.clustering, index.samples)):
            console.print(f"{name}: {text}", soft_wrap=True)
    for name, problems in opened.problems.items():
        show_problems(name, problems)
    return EXIT_FAILED if opened.problems else EXIT_DONE


def _row(index: ShardIndex) -> list[str]:
    sizes, samples = [s.bytes for s in index.shards], index.samples
    row = [f"{len(sizes):,}", f"{samples:,}"]
    known = bool(sizes) and None not in sizes
    row += [f"{sum(sizes):,}", f"{sum(sizes) / max(samples, 1):,.0f}"] if known else ["unknown", "unknown"]
    row.append(f"{len(index.class_names):,}")
    ends = (min, max) if known else ()
    return row + ([f"{end(sizes):,} bytes" for end in ends] or ["unknown", "unknown"])


def _missing(index: ShardIndex) -> list[str]:
    """What the index lacks, and what for it would be good."""
    facts = {
        "size": ("bytes", "a shard that was cut short is seen only while it is read"),
        "checksum": ("sha256", "verify cannot tell whether a shard was changed"),
        "mark": ("marks", "reading starts only at the beginning of a shard"),
    }
    lines = []
    for what, (field, effect) in facts.items():
        count = sum(not getattr(shard, field) for shard in index.shards)
        if count:
            lines.append(f"no {what} of {counted(count, 'shard')}: {effect}; xlatrain shards index adds it")
    if all(name.isdigit() for name in index.class_names):
        lines.append("the classes have no names, only numbers")
    return lines
