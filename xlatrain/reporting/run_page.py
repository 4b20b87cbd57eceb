"""The page on one run, or on several laid over each other."""

from __future__ import annotations

import html
from collections.abc import Sequence

from xlatrain.page import begin
from xlatrain.reporting import chart, parts
from xlatrain.reporting.record import Record


def run_page(records: Sequence[Record]) -> str:
    """HTML that needs nothing but itself. records: in the order of their colours."""
    title = records[0].name if len(records) == 1 else f"{len(records)} runs compared"
    found = [
        begin(f"xlatrain: {title}", chart.STYLE),
        f"<h1>{html.escape(title)}</h1>",
        parts.remarks(records),
        parts.overview(records),
        parts.differing_options(records) if len(records) > 1 else "",
        parts.curves(records),
        parts.time_spent(records),
        parts.dearest_ops(records[0]) if len(records) == 1 else "",
        parts.to_accuracy(records),
        parts.events(records),
        parts.all_options(records[0]) if len(records) == 1 else "",
        parts.machines(records),
    ]
    return "\n".join(part for part in found if part) + "\n"
