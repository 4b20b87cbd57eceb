"""Tables keep their words, whatever the terminal's width."""

import io

import pytest
from rich.table import Table

from xlatrain.console import Console, print_whole


@pytest.mark.parametrize(
    ("width", "left_out"),
    [(60, ""), (40, "seconds"), (28, "top-1, seconds"), (14, "overrides, status, top-1, seconds")],
)
def test_a_table_loses_columns_not_words(width, left_out):
    table = Table("job", "overrides", "status", "top-1", "seconds", box=None, pad_edge=False)
    table.columns[1].overflow = "fold"
    table.add_row("0", "optimizer=lars ema=off", "done", "0.9917 best", "12.5")
    console = Console(file=io.StringIO(), width=width)
    print_whole(table, console)
    text = console.file.getvalue()
    assert max(map(len, text.splitlines())) <= width
    assert "…" not in text
    assert ("optimizer=lars" in text) == (width > 14)
    assert ("0.9917 best" in text) == (width >= 40)
    assert " ".join(text.split()).partition("a wider terminal also shows ")[2] == left_out
