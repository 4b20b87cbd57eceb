"""A plan is whole on any terminal and says what made it."""

import io
import itertools

import pytest
from rich.console import Console

from tests.planning.modules import an_estimate
from xlatrain.engine.provenance import provenance
from xlatrain.planning.html_report import write_page
from xlatrain.planning.terminal import figures, print_estimate


@pytest.mark.parametrize("width", [40, 60, 80, 160])
def test_a_plan_is_whole_on_a_terminal_of_any_width(width):
    console = Console(file=io.StringIO(), width=width, highlight=False)
    print_estimate(an_estimate(), console)
    lines = console.file.getvalue().splitlines()
    assert max(map(len, lines)) <= width
    assert any(line.startswith("  blocks.0.conv_pw  0.00") for line in lines)
    tables = itertools.takewhile(lambda line: not line.startswith("!"), lines)
    assert not any("…" in line for line in tables)
    heading = next(i for i, line in enumerate(lines) if line.startswith("most expensive ops"))
    assert ("padding" in lines[heading]) == (width == 160)
    assert any("a wider terminal also shows" in line for line in lines) == (width < 160)


def test_what_memory_consists_of_stands_under_its_step():
    rows = figures(an_estimate())
    where = [name for name, _ in rows].index("memory, train step")
    assert [name for name, _ in rows[where : where + 4]] == ["memory, train step", "", "memory, eval step", ""]
    assert rows[where][1] == "1.50 of 16.0 GiB"
    assert rows[where + 1][1] == "arguments 1.00, results 1.00, donated -1.00, temporaries 0.50, code 0.00"
    assert rows[where + 3][1] == "arguments 0.25, results 0.00, donated 0.00, temporaries 0.00, code 0.00"


def test_a_report_says_the_command_and_the_versions_that_made_it(tmp_path):
    origin = provenance(["xlatrain", "plan", "-m", "model.name=<b>,resnet18"])
    write_page([an_estimate()], [["a=1"]], origin, tmp_path / "one.html")
    page = (tmp_path / "one.html").read_text()
    assert "<code>xlatrain plan -m &#x27;model.name=&lt;b&gt;,resnet18&#x27;</code>" in page
    assert f"torch {origin['versions']['torch']}" in page
