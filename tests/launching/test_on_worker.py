"""What a machine does when it is asked, once and again."""

import json
import os
import signal
import subprocess
import sys

import fsspec
import pytest

from tests.waiting import wait_for
from xlatrain.config.compose import compose_config
from xlatrain.launching import on_worker, session, stage
from xlatrain.launching.answer import MARK
from xlatrain.launching.keep import Keeper
from xlatrain.launching.stage import choose_place, stage_words
from xlatrain.xla import heartbeat
from xlatrain.xla.heartbeat import Heartbeat, Whereabouts


@pytest.fixture(autouse=True)
def machine(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def ask(capsys, *arguments):
    assert on_worker.main(list(arguments)) == 0
    out = capsys.readouterr().out
    assert out.startswith(MARK)
    return json.loads(out.removeprefix(MARK))


# In place of `python -m xlatrain.launching.on_worker session`, and of `xlatrain supervise`.
WAITS = "import signal, sys; signal.signal(15, lambda *_: sys.exit(75)); print('ready', flush=True); signal.pause()"


def test_a_try_is_started_once_and_stopped(monkeypatch, capsys):
    popen, started = subprocess.Popen, []

    def start(command, **how):
        started.append(command)
        assert how["start_new_session"]  # no connection takes it with it
        return popen([sys.executable, "-S", "-c", WAITS], **how)

    monkeypatch.setattr(subprocess, "Popen", start)
    assert ask(capsys, "look", "--run=runs/a") == {"state": "none"}
    words = ["--try=7", "--run=runs/a", "--folder=gs://mine", "--stage=auto", "--", "train.seed=3"]
    first = ask(capsys, "start", *words)
    assert (first["state"], first["try"], first["code"]) == ("running", 7, None)
    again = ask(capsys, "start", *words)
    assert again["state"] == "running"
    assert ask(capsys, "start", "--try=8", *words[1:])["try"] == 7  # one run at a time
    assert len(started) == 1
    assert started[0][3:] == ["session", *words]
    wait_for(lambda: "ready" in session.LOG.read_text())
    stopped = ask(capsys, "stop", "--run=runs/a")
    assert stopped["asked"]
    pid = json.loads(session._FILE.read_text())["pid"]
    os.waitpid(pid, 0)
    died = ask(capsys, "look", "--run=runs/a")
    assert (died["state"], died["said"]) == ("died", "ready")  # this one writes down no exit code


@pytest.mark.parametrize(("flags", "supervised"), [([], ["supervise", "--"]), (["--alone"], [])])
def test_a_session_supervises_hands_a_signal_on_and_writes_the_exit_code_down(
    tmp_path, monkeypatch, capsys, flags, supervised
):
    popen, started = subprocess.Popen, []

    def start(command, **how):
        started.append(command)
        process = popen([sys.executable, "-S", "-c", WAITS], stdout=subprocess.PIPE, **how)
        process.stdout.readline()
        os.kill(os.getpid(), signal.SIGTERM)
        return process

    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
    monkeypatch.setattr(subprocess, "Popen", start)
    try:
        arguments = ["session", "--try=7", "--run=runs/a", f"--folder={tmp_path}/kept", *flags, "--", "run.name=a"]
        assert on_worker.main(arguments) == 75
    finally:
        for number, handler in zip((signal.SIGTERM, signal.SIGINT), before, strict=True):
            signal.signal(number, handler)
    assert started == [[sys.executable, "-m", "xlatrain", *supervised, "train", "run.name=a"]]
    said = ask(capsys, "look", "--run=runs/a")
    assert (said["state"], said["code"], said["asked"]) == ("ended", 75, False)


def test_a_check_tells_versions_and_what_the_doctor_finds_and_what_cannot_be_written(tmp_path, monkeypatch, capsys):
    finding = {"check": "TPU", "status": "failed", "text": "none", "cure": "buy one"}
    out = json.dumps({"findings": [finding, {**finding, "status": "ok"}]})
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: subprocess.CompletedProcess([], 1, out, ""))
    said = ask(capsys, "check", f"--folder={tmp_path}/kept", "--", "train.seed=1")
    assert said["failed"] == [finding]
    assert "torch" in said["versions"]
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: subprocess.CompletedProcess([], 1, "", "it broke"))
    said = ask(capsys, "check", "--folder=nope://mine", "--")
    assert [f["check"] for f in said["failed"]] == ["doctor", "launch.folder"]
    assert said["failed"][0]["text"] == "it broke"


def test_copies_of_the_first_replicas_machine_outlive_it_and_come_back(tmp_path):
    run, log = tmp_path / "here/runs/a", tmp_path / "run.log"
    files = {"metrics.jsonl": "1", "events/x": "2"}
    apart = {"checkpoints/step-000000003/state": "3", ".lock": "", "launch.json": ""}
    for name, text in (files | apart).items():
        (run / name).parent.mkdir(parents=True, exist_ok=True)
        (run / name).write_text(text)
    log.write_text("said")
    kept = tmp_path / "kept/a"
    keeper = Keeper(run, str(kept))
    keeper.copy(log, "x-worker-1.log")  # its replicas are others
    assert [path.relative_to(kept).as_posix() for path in kept.rglob("*") if path.is_file()] == ["logs/x-worker-1.log"]
    (run / heartbeat.FOLDER).mkdir()
    heartbeat.write(run / heartbeat.FOLDER, Heartbeat("h", 1, 0.0, {0: Whereabouts()}))
    keeper.copy(log, "x-worker-0.log")
    (run / "metrics.jsonl").write_text("1\n2")
    keeper.copy(log, "x-worker-0.log")
    assert (kept / "metrics.jsonl").read_text() == "1\n2"
    other = tmp_path / "there/runs/a"
    Keeper(other, f"file://{kept}").bring_back()
    found = {path.relative_to(other).as_posix() for path in other.rglob("*") if path.is_file()}
    assert found == set(files)
    (other / "metrics.jsonl").write_text("mine")
    Keeper(other, str(kept)).bring_back()  # what is here stays
    assert (other / "metrics.jsonl").read_text() == "mine"


def test_a_store_that_fails_ends_no_run(tmp_path, capsys):
    (tmp_path / "kept").write_text("no folder")
    (tmp_path / "run.log").write_text("said")
    keeper = Keeper(tmp_path / "runs/a", str(tmp_path / "kept/a"))
    keeper.copy(tmp_path / "run.log", "w.log")
    assert "logs/w.log is not copied to" in capsys.readouterr().err
    Keeper(tmp_path / "runs/a", "nope://mine").bring_back()
    assert "do not come back" in capsys.readouterr().err


def test_shards_are_kept_where_they_fit(tmp_path, monkeypatch, capsys):
    free = {"memory": 100, "disk": 1000}
    assert [choose_place("auto", size, free) for size in (50, 51, 800, 801)] == ["memory", "disk", "disk", None]
    assert choose_place("memory", 51, free) is None
    fsspec.filesystem("memory").pipe_file("/shards/train/0.tar", b"x" * 3000)
    config, _ = compose_config(["data=shards", "data.root=memory://shards"])
    assert stage_words(config, "disk", "xlatrain-b2", tmp_path) == [f"data.cache={tmp_path}/shards"]
    monkeypatch.setattr(stage, "_free_memory", lambda: 5000)
    assert stage_words(config, "auto", "xlatrain-b2", tmp_path) == [f"data.cache={tmp_path}/shards"]
    monkeypatch.setattr(stage, "_free_memory", lambda: 6000)
    assert stage_words(config, "auto", "xlatrain-b2", tmp_path) == ["data.cache=/dev/shm/xlatrain-b2"]
    monkeypatch.setattr(stage, "_free_memory", lambda: 0)
    assert stage_words(config, "memory", "xlatrain-b2", tmp_path) == []
    assert "do not fit into memory: they are not kept" in capsys.readouterr().err
    assert stage_words(config, "none", "xlatrain-b2", tmp_path) == []
    kept, _ = compose_config(["data=shards", "data.root=memory://shards", "data.cache=/c"])
    assert stage_words(kept, "auto", "xlatrain-b2", tmp_path) == []
    gone, _ = compose_config(["data=shards", "data.root=memory://nowhere"])
    assert stage_words(gone, "auto", "xlatrain-b2", tmp_path) == []
    assert "is not measured" in capsys.readouterr().err
