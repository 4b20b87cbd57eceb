"""Help on a terminal of any width: every name whole, every flag in the list of its verb, words that choose."""

import importlib
import io

import pytest

import xlatrain
from xlatrain.cli.help import help_lines
from xlatrain.cli.main import FUNCTIONS, main
from xlatrain.cli.verbs import VERBS, take_flags
from xlatrain.config.override import option_keys
from xlatrain.errors import ConfigError
from xlatrain.words import counted

WITH_OPTIONS = [verb for verb in VERBS if verb != "shards"]  # which has a parser of its own


@pytest.mark.parametrize("width", [40, 60, 80, 120, 160])
def test_no_name_is_cut_at_any_width(width):
    lines = help_lines("train", [], width)
    assert all(len(line) <= width or " " not in line.strip() for line in lines)
    listed = {line.split("=")[0].strip() for line in lines}
    assert set(option_keys()) <= listed
    assert any("tpu_v3_1024" in line for line in lines)


@pytest.mark.parametrize("verb", WITH_OPTIONS)
def test_a_verb_lists_its_flags(verb, capsys):
    assert main([verb, "--help"]) == 0
    out = capsys.readouterr().out
    for flag in VERBS[verb].flags:
        assert f"  {flag.shown} " in out
    assert "-h, --help" in out


def test_shards_lists_the_flags_of_its_commands(monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "60")
    assert main(["shards", "--help"]) == 0
    out = capsys.readouterr().out
    for flag in ("--split FRACTION", "--skip-bad", "--class-names FILE", "--processes", "--labels FILE"):
        assert flag in out
    assert max(map(len, out.splitlines())) <= 60


def test_flags_listed_are_flags_taken():
    assert take_flags("plan", ["-m", "--json", "cluster=tpu_v3_8"]) == (
        {"--multirun": "", "--json": ""}, ["cluster=tpu_v3_8"]
    )  # fmt: skip
    assert take_flags("show", ["out=a.png", "optimizer.lr=1", "out=b.png"]) == ({"out": "b.png"}, ["optimizer.lr=1"])
    assert take_flags("train", ["--json", "out=a"]) == ({}, ["--json", "out=a"])  # not its own: the parser will say so


def test_words_choose():
    lines = "\n".join(help_lines("train", ["optimizer"], 80))
    assert "optimizer.trust_coefficient=" in lines
    assert "of optimizer=lars" in lines
    assert "scaling.lr_per_256" not in lines  # which only mentions it
    assert "--multirun" not in lines
    lines = "\n".join(help_lines("train", ["mixup"], 80))
    assert "augment.mixup=" in lines
    assert "train.seed" not in lines
    assert "train.duration=350ep" in "\n".join(help_lines("plan", ["train"], 80))
    with pytest.raises(ConfigError, match="did you mean optimizer"):
        help_lines("train", ["optimzer"], 80)


def test_one_is_no_plural():
    assert [counted(n, "class") for n in (0, 1, 2000)] == ["0 classes", "1 class", "2,000 classes"]
    assert (counted(2, "retry"), counted(1, "image"), counted(3, "image")) == ("2 retries", "1 image", "3 images")


def test_the_overview_keeps_its_column(monkeypatch):
    from xlatrain.cli import main as cli
    from xlatrain.console import Console

    screen = Console(file=io.StringIO(), width=40, highlight=False, markup=False)
    monkeypatch.setattr(cli, "make_console", lambda: screen)
    assert main([]) == 0
    lines = screen.file.getvalue().splitlines()
    assert all(len(line) <= 40 or " " not in line.strip() for line in lines)
    assert lines[6:8] == ["  train     train a model: xlatrain", "            train model=efficientnet_b0"]


@pytest.mark.slow
@pytest.mark.parametrize("width", [40, 60, 80, 120])
def test_a_schedule_is_drawn_as_wide_as_the_terminal(width, monkeypatch, tmp_path):
    from xlatrain.cli import show
    from xlatrain.console import Console

    screen = Console(file=io.StringIO(), width=width, highlight=False, markup=False)
    monkeypatch.setattr(show, "make_console", lambda: screen)
    monkeypatch.chdir(tmp_path)
    assert main(["show", "schedule", "schedule=onecycle", "out=a.png"]) == 0
    assert (tmp_path / "a.png").exists()
    lines = [line for line in screen.file.getvalue().splitlines() if "█" in line]
    assert [line.split()[0] for line in lines] == ["learning", "momentum"]
    assert all(width // 2 < len(line) <= width for line in lines)


def test_version_names_what_computes(capsys):
    assert main(["--version"]) == 0
    said = capsys.readouterr().out
    assert said.startswith(f"xlatrain {xlatrain.__version__}, python 3.")
    assert ", torch_xla 2.9" in said


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_names_a_function(verb):
    module, _, function = FUNCTIONS[verb].partition(":")
    assert callable(getattr(importlib.import_module(module), function))
