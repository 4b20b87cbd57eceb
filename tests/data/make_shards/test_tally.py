"""The bar of shards stays one line, whatever the terminal's width."""

import io
import re

import pytest

from xlatrain import live_line
from xlatrain.data.make_shards.tally import Tally

ESCAPE = re.compile(r"\x1b\[[\d;?]*[A-Za-z]")


@pytest.mark.parametrize("width", [30, 40, 60, 80])
def test_the_bar_of_shards_does_not_wrap(width, monkeypatch):
    console = live_line.Console(file=io.StringIO(), force_terminal=True, width=width, highlight=False)
    monkeypatch.setattr(live_line, "Console", lambda **_: console)
    with Tally("train", 1_281_167) as meter:
        meter.advance(1_200_000)
        meter._live.refresh()
    lines = [r for row in ESCAPE.sub("", console.file.getvalue()).split("\n") for r in row.split("\r") if r.strip()]
    assert max(map(len, lines)) <= width
    assert "train  1,200,000/1,281,167" in lines[-1]
