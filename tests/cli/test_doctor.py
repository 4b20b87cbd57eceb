"""The verb: exit codes, the same as JSON, and a check that hangs or fails keeps nobody waiting."""

import json
import threading

import pytest

from xlatrain.cli.main import main
from xlatrain.config.compose import compose_config
from xlatrain.doctor import examine
from xlatrain.doctor.examine import CHECKS, Check
from xlatrain.doctor.finding import Finding, Machine


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    for name in ("OMP_NUM_THREADS", "TPU_VISIBLE_CHIPS"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def test_all_checks_are_told_and_told_alike_as_json(tmp_path, capsys):
    code = main(["doctor", f"run.root={tmp_path}"])
    text = capsys.readouterr().out
    assert main(["doctor", f"run.root={tmp_path}", "--json"]) == code
    told = json.loads(capsys.readouterr().out)
    assert {f["check"] for f in told["findings"]} == {c.name for c in CHECKS}
    assert code == bool(told["failed"])
    for finding in told["findings"]:
        if "GiB free" not in finding["text"]:  # which may change between the two
            assert finding["text"] in text
        assert finding["status"] in ("ok", "note", "failed", "unknown")
        assert finding["cure"] or finding["status"] != "failed"


def test_a_failed_check_is_exit_code_1_and_a_wrong_option_2(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("XLA_COMPILE_CACHE_PATH", "/x")
    assert main(["doctor", f"run.root={tmp_path}"]) == 1
    assert "cure: unset XLA_COMPILE_CACHE_PATH" in capsys.readouterr().out
    assert main(["doctor", "cluster=tpu_v3_9"]) == 2
    assert main(["doctor", "--clear-cach"]) == 2


def test_a_check_that_hangs_or_breaks_does_not_hold_up_the_others(monkeypatch):
    release = threading.Event()

    def hang(machine, config):
        release.wait()
        yield

    def fail(machine, config):
        yield 1 / 0

    late = Check("a", hang, lambda config: f"look {config.run.root}")
    checks = (late, Check("b", fail), Check("c", lambda machine, config: iter([])))
    monkeypatch.setattr(examine, "CHECKS", checks)
    config, _ = compose_config([])
    found = examine.examine(Machine(), config, seconds=0.2)
    release.set()
    assert found["a"] == [Finding("failed", "no answer within 0.2 s", "look runs")]
    assert found["b"][0].text == "cannot be seen here: ZeroDivisionError: division by zero"
    assert found["c"] == [Finding("ok", "nothing unusual")]


def test_what_does_not_answer_is_told_with_the_command_that_shows_it(monkeypatch):
    config, _ = compose_config(["data=shards", "data.root=http://h/x", "data.image_size=8", "cluster.coordinator=a:1"])
    late = {check.name: check.late(config) for check in CHECKS}
    assert late["data"] == "curl -I http://h/x/train"
    assert late["coordinator"] == "getent hosts a"
    assert late["space"] == "df -h"


def test_clearing_says_how_much(cache, capsys):
    folder = cache / "xlatrain/jax"
    folder.mkdir(parents=True)
    (folder / "a-cache").write_bytes(bytes(2_000_000))
    assert main(["doctor", "--clear-cache"]) == 0
    assert f"{folder}: 1 file, 2.0 MB removed" in capsys.readouterr().out
    assert main(["doctor", "--clear-cache", "--json"]) == 0
    assert [c["files"] for c in json.loads(capsys.readouterr().out)["cleared"]] == [0, 0]
