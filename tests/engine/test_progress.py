"""Live lines stay one line and tables keep their words, whatever the terminal's width."""

import io
import re

import pytest
from rich.table import Table

from xlatrain.console import fitted, print_whole
from xlatrain.engine import progress
from xlatrain.engine.progress import ProgressLine

STATUS = "epoch 10.9  loss 1.5322  lr 0.008182  1784 images/s"
ESCAPE = re.compile(r"\x1b\[[\d;?]*[A-Za-z]")


def drawn(monkeypatch, width, act):
    """What a terminal shows in the end: of each line that is drawn over, the last."""
    console = progress.Console(file=io.StringIO(), force_terminal=True, width=width, highlight=False)
    monkeypatch.setattr(progress, "Console", lambda **_: console)
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


@pytest.mark.parametrize("width", [30, 40, 60, 80])
def test_the_bar_of_shards_does_not_wrap(width, monkeypatch):
    from xlatrain.data.make_shards import tally as of_shards

    console = progress.Console(file=io.StringIO(), force_terminal=True, width=width, highlight=False)
    monkeypatch.setattr(of_shards, "Console", lambda **_: console)
    with of_shards.Tally("train", 1_281_167) as meter:
        meter.advance(1_200_000)
        meter._bar.refresh()
    lines = [r for row in ESCAPE.sub("", console.file.getvalue()).split("\n") for r in row.split("\r") if r.strip()]
    assert max(map(len, lines)) <= width
    assert "train  1,200,000/1,281,167" in lines[-1]


@pytest.mark.parametrize(
    ("width", "left_out"),
    [(60, ""), (40, "seconds"), (28, "top-1, seconds"), (14, "overrides, status, top-1, seconds")],
)
def test_a_table_loses_columns_not_words(width, left_out):
    table = Table("job", "overrides", "status", "top-1", "seconds", box=None, pad_edge=False)
    table.columns[1].overflow = "fold"
    table.add_row("0", "optimizer=lars ema=off", "done", "0.9917 best", "12.5")
    console = progress.Console(file=io.StringIO(), width=width)
    print_whole(table, console)
    text = console.file.getvalue()
    assert max(map(len, text.splitlines())) <= width
    assert "…" not in text
    assert ("optimizer=lars" in text) == (width > 14)
    assert ("0.9917 best" in text) == (width >= 40)
    assert " ".join(text.split()).partition("a wider terminal also shows ")[2] == left_out
