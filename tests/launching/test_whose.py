"""Whose machines those of a name are: those asked for from here are gone on with, another's are left alone, and two
commands do not have the same ones."""

import json

import pytest

from tests.launching.played import COMMAND, CREATE, DELETE, DONE, Play, on_stage
from xlatrain.cli.main import main
from xlatrain.errors import EXIT_CONFIG, EXIT_DONE, EXIT_FAILED
from xlatrain.launching.ledger import FILE, held
from xlatrain.launching.until_done import UntilDone

ACTIVE = {"states": ["ACTIVE"]}
LAUNCH = [*COMMAND, "launch.folder=gs://mine/runs"]


@pytest.mark.parametrize("act", [UntilDone.run, UntilDone.create])
def test_machines_that_were_not_asked_for_from_here_are_left_alone(act, tmp_path):
    play = Play(tmp_path, [ACTIVE])
    play.pod.script.create()
    assert act(play.loop) == EXIT_FAILED
    assert (play.machines, play.calls("tpu-vm"), play.calls(DELETE)) == (["b2"], 0, 0)
    assert "b2 is there already" in play.text
    assert "it may be another's: take another launch.name" in play.text
    again = Play(tmp_path, [ACTIVE])  # nor are they from then on
    assert act(again.loop) == EXIT_FAILED
    assert (again.machines, again.bill["machines"]) == (["b2"], [])


@pytest.mark.parametrize("presses", [1, 9])
@pytest.mark.parametrize("act", [UntilDone.run, UntilDone.create])
def test_ctrl_c_deletes_nothing_of_which_it_is_not_known_yet_whose_it_is(act, presses, tmp_path):
    play = Play(tmp_path, [ACTIVE], presses=["state"] * presses)
    play.pod.script.create()
    assert act(play.loop) == 130
    assert (play.machines, play.calls(DELETE)) == (["b2"], 0)
    assert "queued-resources delete b2" in play.said[-1]


def test_a_name_that_somebody_takes_at_the_same_time_is_theirs(tmp_path, monkeypatch):
    play = Play(tmp_path, [ACTIVE])
    create = play.pod.script.create
    monkeypatch.setattr(play.pod.script, "create", lambda: (create(), create())[1])
    assert play.run() == EXIT_FAILED
    assert (play.machines, play.calls(DELETE)) == (["b2"], 0)
    assert "asked for by somebody else just now" in play.text
    assert not play.bill["asked"]


def test_a_request_of_a_command_that_was_killed_comes_late_and_is_ours_all_the_same(tmp_path, monkeypatch):
    play = Play(tmp_path, [ACTIVE])
    play.pod.ledger.asked = True
    create = play.pod.script.create
    monkeypatch.setattr(play.pod.script, "create", lambda: (create(), create())[1])
    assert play.run() == EXIT_DONE
    assert play.machines == []


def test_other_machines_of_the_same_name_are_not_taken_for_those_that_are_wanted(tmp_path):
    play = Play(tmp_path, [ACTIVE])
    assert play.loop.create() == EXIT_DONE
    play.pod.ledger.open.accelerator_type = "v4-8"
    assert play.run() == EXIT_FAILED
    assert "b2 is there already as v4-8, and not as v4-16: delete it first" in play.text
    assert play.machines == ["b2"]


def test_a_command_that_is_killed_as_it_asks_has_said_so_before(tmp_path, monkeypatch):
    play = Play(tmp_path, [ACTIVE])
    create = play.pod.script.create
    bills = []
    monkeypatch.setattr(play.pod.script, "create", lambda: (bills.append(play.bill), create())[1])
    assert play.run() == EXIT_DONE
    assert [(bill["tries"], bill["asked"]) for bill in bills] == [(1, True)]
    assert not play.bill["asked"]


@pytest.mark.parametrize("states", [["ACTIVE"], ["CREATING"] * 9 + ["ACTIVE"]], ids=["in the run", "before"])
def test_machines_that_somebody_deletes_are_not_replaced(states, tmp_path, monkeypatch):
    play = Play(tmp_path, [{"states": states}], [[{"step": 1}]])
    sleeps, sleep = iter(range(99)), play.time.sleep
    monkeypatch.setattr(
        play.time, "sleep", lambda seconds: (sleep(seconds), next(sleeps) == 3 and play.pod.script.delete())
    )
    assert play.run() == 75
    assert (play.machines, play.calls(CREATE)) == ([], 1)
    assert "somebody has deleted b2: no other is asked for" in play.text


@pytest.fixture
def stage(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return lambda exists=(): on_stage(tmp_path, monkeypatch, exists, [[DONE]] if exists else ())


def test_two_commands_do_not_have_the_same_machines(stage, tmp_path, capsys):
    play = stage()
    with held(tmp_path / "runs/b2" / FILE, begins=True):
        assert main(["launch", "--until-done", *LAUNCH]) == EXIT_CONFIG
        assert "launch.name: a launch in runs/b2 is going on" in capsys.readouterr().err
    assert not (play.cloud.folder / "calls.jsonl").exists()


@pytest.mark.slow  # nine commands
def test_what_looks_on_leaves_the_bill_and_the_options_of_the_launch_as_they_are(stage, tmp_path):
    play = stage()
    assert main(["launch", "create", *LAUNCH, "train.seed=3"]) == EXIT_DONE
    path = tmp_path / "runs/b2" / FILE
    before = json.loads(path.read_text())
    place = [*COMMAND, "run.name=b2"]
    for more in ([], place):
        main(["launch", "status", "launch.name=b2", *more])
        assert json.loads(path.read_text())["overrides"] == before["overrides"]
    with held(path, begins=True):  # by a launch that goes on
        text = path.read_text()
        play.time.seconds += 60
        main(["launch", "status", "launch.name=b2"])
        assert path.read_text() == text
    assert main(["launch", "setup", "launch.name=b2"]) == EXIT_DONE
    assert main(["launch", "setup", "launch.name=b2"]) == EXIT_DONE
    assert json.loads(path.read_text())["overrides"].count("launch.name=b2") == 1
    assert main(["launch", "--until-done", *LAUNCH]) == EXIT_DONE
    assert main(["launch", "status", *place]) == EXIT_DONE
    assert json.loads(path.read_text())["status"] == "done"
    assert main(["launch", "status", *COMMAND[:-1], "launch.name=typo"]) == EXIT_DONE
    assert not (tmp_path / "runs/typo").exists()


@pytest.mark.parametrize("text", ["{", "[]", '{"overrides": [], "tries": "x"}', '{"overrides": [1], "machines": [{}]}'])
def test_a_bill_that_cannot_be_read_is_not_begun_anew(text, stage, tmp_path, capsys):
    stage(exists=COMMAND)
    path = tmp_path / "runs/b2" / FILE
    path.parent.mkdir(exist_ok=True, parents=True)
    path.write_text(text)
    assert main(["launch", "--until-done", *LAUNCH]) == EXIT_CONFIG
    assert "runs/b2/launch.json cannot be read: what was spent so far is not known" in capsys.readouterr().err
    assert main(["launch", "delete", *COMMAND]) == EXIT_DONE
    assert path.read_text() == text


def test_a_folder_that_cannot_be_written_is_said_before_anything_is_asked_for(tmp_path):
    (tmp_path / "runs").write_text("")
    with pytest.raises(Exception, match="cannot be written"), held(tmp_path / "runs/b2" / FILE, begins=True):
        pass
    with held(tmp_path / "runs/b2" / FILE, begins=False) as free:
        assert free
