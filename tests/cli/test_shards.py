"""Arguments of `xlatrain shards`."""

import pytest

from xlatrain.cli.shards import shards


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["pack"],
        ["from-folder", "a"],
        ["from-folder", "a", "b", "--split", "2"],
        ["from-folder", "a", "b", "--quality", "80"],
        ["verify", "a", "--processes", "0"],
    ],
)
def test_wrong_arguments_end_with_2_and_help_with_0(arguments):
    assert shards(arguments) == 2
    assert shards(["from-tar", "--help"]) == 0


@pytest.mark.parametrize("option", ["--split", "--seed", "--quality", "--samples-per-shard"])
def test_a_word_where_a_number_belongs_is_named(option, capsys):
    assert shards(["from-folder", "a", "b", option, "x"]) == 2
    assert f"argument {option}: 'x' is no" in capsys.readouterr().err
