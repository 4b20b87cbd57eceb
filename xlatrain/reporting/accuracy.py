"""How long a run took to an accuracy, and what that cost."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from xlatrain.preflight.until import parse_until
from xlatrain.reporting.record import Record, number, spent_in

_LEVELS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.75, 0.8, 0.85, 0.9, 0.93, 0.95, 0.97, 0.98, 0.99)
_SHOWN = 4


def levels(records: Sequence[Record]) -> list[float]:
    """Accuracies worth a row: the highest of a list that some run has reached, the best that all have reached, and
    those at which runs were to end."""
    reported = ([number(line.get("top1")) or 0.0 for line in r.eval] for r in records)
    best = [max(found) for values in reported if (found := [t for t in values if 0 < t <= 1])]
    if not best:
        return []
    reached = [level for level in _LEVELS if level <= max(best)][-_SHOWN:]
    return sorted({*reached, math.floor(min(best) * 1e4) / 1e4, *_asked(records)})


def _asked(records: Sequence[Record]) -> Iterator[float]:
    """The top-1 of each train.until."""
    for r in records:
        with contextlib.suppress(ValueError):
            if (text := r.options.get("train.until")) and (until := parse_until(str(text))).metric == "top1":
                yield until.value


def seconds_to(record: Record, level: float) -> float | None:
    """Seconds up to the end of the first evaluation that reached a top-1; None where none did, or nothing says when."""
    for line in record.eval:
        value = number(line.get("top1"))
        if value is not None and value >= level:
            return sum(spent_in(line).values()) or None
    return None


def dollars_per_hour(options: Mapping[str, Any], spot: bool = False) -> float | None:
    """What the cluster of a run costs, by the prices in its options; None where it has none."""
    price = number(options.get(f"cluster.chip.price_{'spot' if spot else 'on_demand'}"))
    topology = options.get("cluster.topology")
    if price is None or not isinstance(topology, list) or not all(isinstance(n, int) for n in topology):
        return None
    return math.prod(topology) * price
