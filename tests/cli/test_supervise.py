"""A run is started again where that helps, and not where it does not."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from xlatrain.cli.main import main
from xlatrain.cli.supervise import Attempt, Supervisor, decide
from xlatrain.errors import EXIT_CONFIG, EXIT_DONE, EXIT_FAILED, EXIT_STOPPED


def after(*attempts, tries=20):
    return decide([Attempt(code, step) for code, step in attempts], tries, 5.0)


def test_it_ends_where_another_start_would_not_help():
    assert (after((0, 9)).wait, after((0, 9)).code) == (None, EXIT_DONE)
    wrong = after((75, 4), (2, 0))
    assert (wrong.wait, wrong.code) == (None, EXIT_CONFIG)
    assert "would find it so again" in wrong.why
    same = after((1, 4), (-9, 7), (1, 7), (-6, 7))
    assert (same.wait, same.code) == (None, EXIT_FAILED)
    assert same.why.startswith("it has crashed (SIGABRT) in step 7 3 times in a row")
    assert after((75, 7), (75, 7), (75, 7)).wait is not None  # stopped, which is no crash
    spent = after((1, 4), (75, 5), tries=2)
    assert (spent.wait, spent.code) == (None, EXIT_STOPPED)
    assert spent.why == "stopped in step 5; that was start 2 of 2"
    assert after((1, 5), tries=1).code == EXIT_FAILED


def test_waits_grow_while_it_gets_no_further():
    assert after((1, 4)).wait == 5
    assert after((1, 4), (75, 4)).wait == 10
    assert after((1, 4), (75, 4), (1, 3)).wait == 20
    assert after((1, 4), (75, 4), (1, 8)).wait == 5
    assert after(*[(75, 4)] * 15).wait == 300
    assert after((1, 4)).why == "crashed (exit code 1) in step 4; start 2 of 20 in 5 s"


RUN = """
import json, sys
from pathlib import Path
folder = Path(sys.argv[1])
starts = folder / "starts"
number = len(starts.read_text()) if starts.exists() else 0
starts.write_text("x" * (number + 1))
(folder / "heartbeats").mkdir(exist_ok=True)
place = {"phase": "step", "step": 4 * number}
beat = {"host": "here", "pid": 1, "time": 0, "replicas": {"0": place}}
(folder / "heartbeats/here-1.json").write_text(json.dumps(beat))
sys.exit([1, 75, 0][number])
"""


def test_a_command_is_started_until_it_is_done(tmp_path, capsys):
    assert Supervisor([sys.executable, "-c", RUN, str(tmp_path)], tmp_path, 5, 0.01).run() == EXIT_DONE
    assert (tmp_path / "starts").read_text() == "xxx"
    said = capsys.readouterr().err.splitlines()
    assert [line.removeprefix("xlatrain supervise: ") for line in said] == [
        "crashed (exit code 1) in step 0; start 2 of 5 in 0.01 s",
        "stopped in step 4; start 3 of 5 in 0.01 s",
        "the run is done",
    ]


def test_the_step_of_a_machine_without_the_runs_folder_is_known_too(tmp_path, capsys):
    program = RUN.replace('(folder / "heartbeats/', '(Path(__import__("os").environ["XLATRAIN_HEARTBEATS"]) / "')
    command = [sys.executable, "-c", program, str(tmp_path)]
    assert Supervisor(command, tmp_path / "nowhere", 5, 0.01).run() == EXIT_DONE
    assert "stopped in step 4; start 3 of 5" in capsys.readouterr().err


OUTER = """
import sys
from pathlib import Path
from xlatrain.cli.supervise import Supervisor
inner = '''
import signal, sys
def stop(number, frame):
    print("saved", flush=True)
    sys.exit(75)
signal.signal(signal.SIGTERM, stop)
print("ready", flush=True)
signal.pause()
'''
sys.exit(Supervisor([sys.executable, "-c", inner], Path("nowhere"), 5, 1.0).run())
"""


@pytest.mark.parametrize("how", ["signal", "kill"])
def test_a_signal_is_handed_on_and_ends_it_and_a_killed_one_leaves_nothing_running(how):
    with subprocess.Popen([sys.executable, "-c", OUTER], stdout=subprocess.PIPE, text=True) as outer:
        assert outer.stdout.readline() == "ready\n"
        outer.send_signal(signal.SIGTERM if how == "signal" else signal.SIGKILL)
        assert outer.stdout.readline() == "saved\n"
        assert outer.wait(20) == (EXIT_STOPPED if how == "signal" else -signal.SIGKILL)


def test_a_signal_between_two_starts_ends_it(tmp_path):
    program = OUTER.replace("signal.pause()", "sys.exit(1)").replace("5, 1.0", "5, 100.0")
    with subprocess.Popen([sys.executable, "-c", program], stderr=subprocess.PIPE, text=True) as outer:
        assert "start 2 of 5 in 100 s" in outer.stderr.readline()
        outer.send_signal(signal.SIGINT)
        assert outer.wait(20) == EXIT_STOPPED


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "supervise: takes one run"),
        (["train", "run.name=a"], "train: is not one of supervise's flags"),
        (["--", "eval", "run.name=a"], "supervise: takes one run"),
        (["--", "train", "-m", "run.name=a"], "supervise: takes one run"),
        (["--", "train"], "run.name: is open"),
        (["--tries=no", "--", "train", "run.name=a"], "--tries: 'no' is no number from 1 on"),
        (["--wait=0", "--", "train", "run.name=a"], "--wait: '0' is no number from 1 on"),
    ],
)
def test_what_cannot_be_supervised_is_refused(arguments, said, capsys):
    assert main(["supervise", *arguments]) == EXIT_CONFIG
    assert said in capsys.readouterr().err


LIGHT = ["cli.supervise", "cli.status", "cli.report", "cli.launch", "cli.doctor", "launching.on_worker"]


@pytest.mark.parametrize("module", LIGHT)
def test_what_looks_at_a_run_is_plain_python(module):
    """It is to outlive what it watches over, and to cost nothing beside it: `launch` looks every few seconds."""
    code = f"import sys, xlatrain.cli.main, xlatrain.{module}; sys.exit('torch' in sys.modules)"
    root = Path(__file__).parent.parent.parent
    subprocess.run([sys.executable, "-c", code], check=True, env={**os.environ, "PYTHONPATH": str(root)})

