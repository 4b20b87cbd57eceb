"""Charts as SVG, drawn by hand: a few kilobytes each, in the colours of the page, legible on a telephone."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence

from xlatrain.page import Markup
from xlatrain.reporting.curves import Curve
from xlatrain.reporting.scale import Scale, all_shown, fit, shown, widened

COLOURS = 8  # of the page; what comes after is dashed
WIDTH, HEIGHT = 440, 230
_LOG_FROM = 30  # times the smallest value: where curves would else lie on the floor
_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 8, 8, 34

STYLE = """
.charts{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,26rem),1fr));gap:1rem 1.5rem}
figure{margin:0;max-width:40rem}
figcaption{font-weight:600;font-size:.9rem}figcaption span{font-weight:400;color:var(--muted)}
svg{display:block;width:100%}svg text{font:12px system-ui,sans-serif;fill:var(--muted)}
svg .axis{stroke:var(--line);stroke-width:1;fill:none}svg .curve{fill:none;stroke-width:1.7;stroke-linejoin:round}
svg .faint{opacity:.55;stroke-width:1.2}svg .mark{stroke:var(--muted);stroke-dasharray:2 3;stroke-width:1}
.swatch{display:inline-block;width:.8em;height:.8em;border-radius:2px;margin-right:.4em;vertical-align:-.05em}
.named{white-space:nowrap}
.bar{display:flex;height:1.3rem;border-radius:3px;overflow:hidden;margin:.2rem 0 .5rem;background:var(--faint)}
.bar i{display:block;min-width:0}.legend{display:flex;flex-wrap:wrap;gap:.1rem 1rem;font-size:.85rem;margin:.3rem 0}
"""


def line_chart(
    title: str,
    curves: Sequence[Curve],
    note: str = "",
    log: bool = False,
    zero: bool = False,
    marks: Sequence[tuple[float, str]] = (),
) -> Markup:
    """Curves against epochs; "" where none has a point. note: beside the title. log: an axis of factors, where the
    values are of several magnitudes. zero: it begins at 0. marks: epochs at which something happened, and what."""
    curves = [curve for curve in curves if curve.points]
    if not curves:
        return Markup("")
    xs, ys = ([point[i] for curve in curves for point in curve.points] for i in (0, 1))
    across = widened(fit([*xs, *(epoch for epoch, _ in marks)], _LEFT, WIDTH - _RIGHT, zero=True))
    up = widened(fit(ys, HEIGHT - _BOTTOM, _TOP, _LOG_FROM if log else None, zero))
    parts = [_axes(across, up)]
    for epoch, what in marks:
        x = across(epoch)
        line = f"M{x:.1f} {_TOP}V{HEIGHT - _BOTTOM}"
        parts.append(f"<path class=mark d='{line}'><title>{html.escape(what)}</title></path>")
    parts += [_drawn(curve, across, up) for curve in curves]
    head = html.escape(title) + (f" <span>{html.escape(note)}</span>" if note else "")
    drawing = f"<svg viewBox='0 0 {WIDTH} {HEIGHT}' role=img aria-label='{html.escape(title)}'>{''.join(parts)}</svg>"
    return Markup(f"<figure><figcaption>{head}</figcaption>{drawing}</figure>")


def _axes(across: Scale, up: Scale) -> str:
    floor, parts = HEIGHT - _BOTTOM, []
    values = up.ticks()
    for value, text in zip(values, all_shown(values), strict=True):
        y = up(value)
        parts.append(f"<path class=axis d='M{_LEFT} {y:.1f}H{WIDTH - _RIGHT}'/>")
        parts.append(f"<text x={_LEFT - 5} y={y + 4:.1f} text-anchor=end>{text}</text>")
    for value in across.ticks():
        parts.append(f"<text x={across(value):.1f} y={floor + 15} text-anchor=middle>{shown(value)}</text>")
    parts.append(f"<path class=axis d='M{_LEFT} {_TOP}V{floor}H{WIDTH - _RIGHT}'/>")
    parts.append(f"<text x={(_LEFT + WIDTH) / 2:.0f} y={HEIGHT - 4} text-anchor=middle>epoch</text>")
    return "".join(parts)


def _drawn(curve: Curve, across: Scale, up: Scale) -> str:
    places = [(across(x), up(y)) for x, y in curve.points]
    path = "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in places)
    dashed = f" stroke-dasharray='{3 + 2 * (curve.run // COLOURS)} 3'" if curve.run >= COLOURS else ""
    style = f"stroke='{colour(curve.run)}'{dashed}"
    kind = "curve faint" if curve.faint else "curve"
    parts = [f"<path class='{kind}' {style} d='{path}'><title>{html.escape(curve.label)}</title></path>"]
    if curve.dots or len(places) == 1:
        for (x, y), (epoch, value) in zip(places, curve.points, strict=True):
            words = html.escape(f"{curve.label}: {value:.5g} at epoch {epoch:.4g}")
            dot = f"<circle cx={x:.1f} cy={y:.1f} r=2.6 fill='{colour(curve.run)}'>"
            parts.append(f"{dot}<title>{words}</title></circle>")
    return "".join(parts)


def colour(number: int) -> str:
    """Of a run, or of a part of a bar."""
    return f"var(--s{number % COLOURS})"


def swatch(number: int) -> Markup:
    """A small square in the colour of a run."""
    return Markup(f"<span class=swatch style='background:{colour(number)}'></span>")


def named(number: int, name: str) -> Markup:
    """A name with the colour that its curves have."""
    return Markup(f"<span class=named>{swatch(number)}{html.escape(name)}</span>")


def legend(names: Sequence[str]) -> Markup:
    """Which colour is whose."""
    return Markup(f"<div class=legend>{''.join(named(i, name) for i, name in enumerate(names))}</div>")


def stacked_bar(values: Mapping[str, float]) -> Markup:
    """One bar, cut in the shares of its values, in the order and colours of `legend`."""
    total = sum(values.values()) or 1.0
    parts = []
    for i, (name, value) in enumerate(values.items()):
        words = html.escape(f"{name}: {value / total:.1%}")
        parts.append(f"<i style='width:{100 * value / total:.3f}%;background:{colour(i)}' title='{words}'></i>")
    return Markup(f"<div class=bar>{''.join(parts)}</div>")
