"""HTML pages that need nothing but themselves: their style, light and dark, and their tables."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from typing import Any

_STYLE = """
:root{color-scheme:light dark;--back:#fff;--text:#1d2329;--muted:#5b6570;--line:#d7dce1;--faint:#f2f4f6;--warn:#fff1cc;
--s0:#2f6db5;--s1:#c4511c;--s2:#2a8552;--s3:#8a4fb0;--s4:#b5352f;--s5:#0f7f8c;--s6:#8a6a00;--s7:#5d6770}
@media(prefers-color-scheme:dark){:root{--back:#15191d;--text:#e4e8eb;--muted:#9aa5af;--line:#39424a;--faint:#20262c;
--warn:#443708;--s0:#71aef0;--s1:#f0925c;--s2:#66c68f;--s3:#c595e8;--s4:#f07f78;--s5:#56c4d1;--s6:#d6b54a;--s7:#a9b3bc}}
*{box-sizing:border-box}
body{font:15px/1.5 system-ui,sans-serif;max-width:76rem;margin:0 auto;padding:1.5rem 1rem 3rem;color:var(--text);
background:var(--back);overflow-wrap:anywhere}
h1{font-size:1.4rem;margin:.5rem 0}h2{font-size:1.1rem;margin:2rem 0 .5rem}h3{font-size:.95rem;margin:.2rem 0}
table{border-collapse:collapse;margin:.5rem 0}
td,th{padding:.2rem .9rem .2rem 0;text-align:left;vertical-align:top;overflow-wrap:normal}
th{border-bottom:1px solid var(--line);white-space:nowrap}
td.n{text-align:right;white-space:nowrap}th.n{text-align:right}
.wide{overflow-x:auto}code{font-size:.9em}
.command{background:var(--faint);padding:.4rem .8rem}.made{color:var(--muted);font-size:.85rem}
.warning{background:var(--warn);padding:.4rem .8rem;margin:.4rem 0}
svg{max-width:100%;height:auto}
"""


class Markup(str):
    """Text that is HTML already."""

    __slots__ = ()


def begin(title: str, style: str = "") -> str:
    """The head of a page. style: further CSS."""
    head = "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width'>"
    return f"{head}<title>{html.escape(title)}</title><link rel=icon href='data:,'><style>{_STYLE}{style}</style>"


def escaped(value: object) -> str:
    """A value as HTML; Markup stays as it is."""
    return value if isinstance(value, Markup) else html.escape(str(value))


def table(headings: Sequence[str], rows: Sequence[Sequence[object]], numbers: Sequence[int] = ()) -> str:
    """A table, which scrolls by itself where a screen is narrower. numbers: columns that are set to the right."""

    def cells(tag: str, values: Sequence[object]) -> str:
        return "".join(f"<{tag}{' class=n' if i in numbers else ''}>{escaped(v)}" for i, v in enumerate(values))

    head = f"<tr>{cells('th', headings)}" if headings else ""
    body = "".join("<tr>" + cells("td", row) for row in rows)
    return f"<div class=wide><table>{head}{body}</table></div>"


def made_by(origin: Mapping[str, Any]) -> str:
    """The line on versions and commit. origin: as of engine.provenance."""
    made = [*(f"{name} {version}" for name, version in origin.get("versions", {}).items()), origin.get("commit", "")]
    return f"<p class=made>{html.escape(', '.join(str(m) for m in made if m))}</p>"
