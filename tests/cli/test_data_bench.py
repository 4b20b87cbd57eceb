"""`xlatrain data bench` measures the user's own pipeline and says what that means."""

import json

import pytest

from tests.warm import command
from xlatrain.cli.main import main
from xlatrain.engine.input_bench import judge


@pytest.mark.parametrize(
    ("host", "needed", "words"),
    [
        (1000.0, None, ["1,000 images/s", "not known", "need="]),
        (1000.0, 500.0, ["Enough: 1,000", "500"]),
        (1000.0, 950.0, ["Barely enough"]),
        (1000.0, 3000.0, ["Not enough: 1,000 of the 3,000", "6 cores like these 2", "--short-side", "fast-decode"]),
    ],
)
def test_the_verdict_says_what_is_missing(host, needed, words):
    sentence = judge(500.0, host, 2, needed)
    assert all(word in sentence for word in words)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["data"], ["data", "write xlatrain data bench"]),
        (["data", "bench", "data=synthetic", "augment=none"], ["synthetic are no shards"]),
        (["data", "bench", "seconds=soon"], ["seconds", "'soon'"]),
        (["data", "bench", "need=-3"], ["need", "'-3'"]),
        (["data", "bench", "data=cifar10"], ["data.root", "has no value"]),
    ],
)
def test_wrong_arguments_are_named(arguments, words, capsys):
    assert main(arguments) == 2
    said = capsys.readouterr().err
    assert all(word in said for word in words)


@pytest.mark.one_replica
def test_the_bench_measures_every_step_and_leaves_the_figure_for_plans(tmp_path, monkeypatch):
    arguments = ["data", "bench", "--json", "seconds=0.5", "need=1", "data.workers=2"]
    done = command(*arguments, cwd=tmp_path, environment={"XDG_CACHE_HOME": str(tmp_path)}).wait()
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["samples"] == 1437
    assert found["workers"] == 2
    assert found["images_per_second_core"] > 0
    assert found["images_per_second_host"] > 0
    assert all(found["microseconds"][step] > 0 for step in ("read", "decode", "resize", "augment", "transfer"))
    assert found["verdict"].startswith("Enough")
    from xlatrain.files import last_input_figure

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert last_input_figure().images_per_second_core == found["images_per_second_core"]
