"""Live lines stay one line and tables keep their words, whatever the terminal's width."""

import io
import re

import pytest

from xlatrain import live_line
from xlatrain.engine.progress import ProgressLine
from xlatrain.live_line import fitted

ESCAPE = re.compile(r"\x1b\[[\d;?]*[A-Za-z]")
STATUS = "epoch 10.9  loss 1.5322  lr 0.008182  1784 images/s"


def drawn(monkeypatch, width, act):
    """What a terminal shows in the end: of each line that is drawn over, the last."""
    console = live_line.Console(file=io.StringIO(), force_terminal=True, width=width, highlight=False)
    monkeypatch.setattr(live_line, "Console", lambda **_: console)
    with ProgressLine(220) as line:
        act(line)
        line._live.refresh()
    text = ESCAPE.sub("", console.file.getvalue())
    return [part for row in text.split("\n") for part in row.split("\r") if part.strip()]


@pytest.mark.parametrize("width", [40, 60, 80, 120])
def test_the_live_line_does_not_wrap(width, monkeypatch):
    lines = drawn(monkeypatch, width, lambda line: line.step(120, STATUS, print_line=False))
    assert max(map(len, lines)) <= width
    assert all("step" in line for line in lines)  # each time whole, on one line
    assert "step 120/220" in lines[-1]
    assert "epoch 10.9" in lines[-1]
    assert ("images/s" in lines[-1]) == (width >= 80)
    assert ("━" in lines[-1]) == (width >= 120)


def test_a_long_message_keeps_its_seconds(monkeypatch):
    text = "compiling the train step for images uint8[16, 32, 32, 3] of a very long story"
    lines = drawn(monkeypatch, 60, lambda line: line.say(text))
    assert max(map(len, lines)) <= 60
    assert re.search(r"compiling .*… \d+ s$", lines[-1].rstrip())


def test_what_is_said_last_is_left_out_first():
    assert fitted(STATUS, 80) == STATUS
    assert fitted(STATUS, 40) == "epoch 10.9  loss 1.5322  lr 0.008182"
    assert fitted(STATUS, 12) == "epoch 10.9"
    assert fitted("evaluating", 6) == "evalu…"
