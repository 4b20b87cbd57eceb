"""Figures of runs in words."""

from __future__ import annotations

from typing import Any

from xlatrain.reporting.accuracy import dollars_per_hour
from xlatrain.reporting.record import Record

NOT_KNOWN = "–"


def fraction(value: float | None) -> str:
    return NOT_KNOWN if value is None else f"{value:.4f}"


def rate(value: float | None) -> str:
    return NOT_KNOWN if value is None else f"{value:,.0f}" if value >= 100 else f"{value:.1f}"


def duration(seconds: float | None) -> str:
    """12.3 s, 4 min 5 s, 3 h 20 min."""
    if seconds is None:
        return NOT_KNOWN
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, hours = round(seconds) // 60, round(seconds) // 3600
    return f"{minutes} min {round(seconds) % 60} s" if hours == 0 else f"{hours:,} h {minutes % 60} min"


def dollars(record: Record, seconds: float | None) -> str:
    """What so many seconds of a run's cluster cost, on demand and spot."""
    hourly, spot = dollars_per_hour(record.options), dollars_per_hour(record.options, spot=True)
    if seconds is None or hourly is None:
        return NOT_KNOWN
    words = f"{hourly * seconds / 3600:,.2f} USD"
    return words if spot is None else f"{words}, {spot * seconds / 3600:,.2f} spot"


def option(value: Any) -> str:
    """A value as it is typed."""
    if isinstance(value, list):
        return f"[{', '.join(str(v) if isinstance(v, list) else option(v) for v in value)}]"
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def state(record: Record) -> str:
    """How a run is, in a sentence."""
    at = f"step {record.step:,}"
    return {
        "done": f"Done, {at}." if record.step else "Done.",  # of an evaluation
        "running": f"Still going on, at {at}: this page shows it as it is now.",
        "stopped": f"Stopped by {record.said or 'a request'} at {at}; the same command goes on with it.",
        "failed": f"Failed at {at}: {_sentence(record.said or 'it left no last words')}",
        "died": f"Died without a word at {at}: its process was killed, or the machine went away.",
        "never begun": "Never begun: no process of it has said anything.",
    }.get(record.status, f"{record.status}, {at}.")


def _sentence(text: str) -> str:
    return text if text.endswith((".", "!", "?")) else f"{text}."
