"""The page of the surest mistakes: one file of HTML that needs nothing else."""

from __future__ import annotations

import html
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from xlatrain.engine.details.tally import Mistake, Tally
from xlatrain.engine.details.thumbnails import Thumbnail
from xlatrain.preflight.checked import CheckedEvaluation
from xlatrain.words import counted

MOST_BYTES = 2_000_000
_LONGEST = 200  # characters of a name; more would say nothing, and are of strangers' files
_STYLE = """
:root{color-scheme:light dark;--back:#fff;--text:#1c1e21;--soft:#5c6370;--card:#f3f4f6;--line:#d7dae0;--wrong:#b3261e;
--right:#1a6b38}
@media(prefers-color-scheme:dark){:root{--back:#15171a;--text:#e8eaed;--soft:#a3a9b5;--card:#22252a;--line:#3a3f47;
--wrong:#ff8f86;--right:#7fd49b}}
body{background:var(--back);color:var(--text);font:16px/1.45 system-ui,sans-serif;margin:0 auto;max-width:80rem;
padding:1rem}
h1{font-size:1.4rem;margin:.2rem 0 .4rem}p{margin:.3rem 0 1rem;overflow-wrap:anywhere}.soft{color:var(--soft)}
ol{display:grid;gap:.8rem;grid-template-columns:repeat(auto-fill,minmax(10.5rem,1fr));list-style:none;margin:0;padding:0}
li{background:var(--card);border:1px solid var(--line);border-radius:.4rem;overflow:hidden;padding:.6rem}
img{aspect-ratio:1;border-radius:.2rem;display:block;margin-bottom:.4rem;width:100%}img.small{image-rendering:pixelated}
li div{overflow-wrap:anywhere}.wrong{color:var(--wrong);font-weight:600}.right{color:var(--right)}
li .soft{font-size:.8rem;margin-top:.2rem}
@media(max-width:30rem){body{padding:.6rem}ol{gap:.5rem;grid-template-columns:1fr 1fr}li{padding:.45rem}}
"""


def write_page(
    path: Path,
    evaluation: CheckedEvaluation,
    tally: Tally,
    names: Sequence[str],
    result: dict[str, Any],
    thumbnails: Sequence[Thumbnail],
) -> int:
    """Write the page; returns how many mistakes it shows: as many as MOST_BYTES hold. result: the figures of the
    evaluation."""
    model, data = evaluation.config.model.name, evaluation.config.data.name
    wrong = int(tally.confusion.sum() - tally.confusion.trace())
    size = evaluation.config.data.image_size
    heading = f"{model} on {data}: the surest mistakes"
    figures = (
        f"top-1 {result['top1']:.4f}, top-5 {result['top5']:.4f}, loss {result['loss']:.4f} on "
        f"{counted(result['eval_examples'], 'image')}; expected calibration error {tally.calibration_error():.4f}"
    )
    cards = [
        _card(mistake, thumbnail, names, size)
        for mistake, thumbnail in zip(tally.mistakes, thumbnails, strict=True)
    ]
    room = MOST_BYTES - 20_000  # what is not cards has less
    shown = 0
    while shown < len(cards) and (room := room - len(cards[shown].encode())) > 0:
        shown += 1
    if wrong:
        what = f"{shown:,} of {counted(wrong, 'mistake')}, the surest first; images as the model sees them, {size} px."
    else:
        what = "There are none."
    files = ", ".join(str(each.config.weights) for each in evaluation.each)
    content = (
        "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width'>"
        f"<title>{_text(heading)}</title><style>{_STYLE}</style><h1>{_text(heading)}</h1><p>{_text(figures)}<br>"
        f"<span class=soft>{_text(files)}</span></p><p>{_text(what)}</p>\n<ol>\n{''.join(cards[:shown])}</ol>\n"
    )
    path.write_text(content, encoding="utf-8")
    return shown


def _card(mistake: Mistake, thumbnail: Thumbnail, names: Sequence[str], size: int) -> str:
    label, predicted = _text(names[mistake.label]), _text(names[mistake.predicted])
    kind = " class=small" if size <= 64 else ""
    return (
        f"<li><img{kind} src='{thumbnail.address}' alt='{_text(thumbnail.name)}'>"
        f"<div class=wrong>{predicted} {_percent(mistake.confidence)}</div>"
        f"<div class=right>is {label} {_percent(mistake.of_label)}</div><div class=soft>{_text(thumbnail.name)}</div>\n"
    )


def _percent(probability: float) -> str:
    """As HTML. A probability that is neither certain nor impossible is never shown as if it were."""
    percent = 100 * probability
    if 99.95 <= percent < 100:
        return "&gt; 99.9 %"
    return "&lt; 0.1 %" if 0 < percent < 0.05 else f"{percent:.1f} %"


def _text(text: str) -> str:
    """Text of anywhere as HTML, in valid characters."""
    shown = text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"
    return html.escape(shown.encode("utf-8", "replace").decode())
