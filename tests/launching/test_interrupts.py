"""Ctrl-C asks whether the machines stay, at whatever stage and however often it is pressed, and leaves none unsaid."""

import itertools

import pytest

from tests.launching.played import CREATE, DONE, Play
from xlatrain.launching.until_done import Hangup

ACTIVE = {"states": ["ACTIVE"]}
RUNS = [{"step": 10}, {"step": 20}]
STAGES = ["create", "state", "setup", "check", "start", "look", "delete"]


@pytest.mark.parametrize(("stage", "again"), [*itertools.product(STAGES[:-1], [0, 1, 5]), ("delete", 0), ("delete", 1)])
def test_ctrl_c_at_each_stage_with_nobody_to_ask_leaves_no_machine(stage, again, tmp_path):
    """Nor where it is pressed again and again before it has come to anything."""
    play = Play(tmp_path, [ACTIVE], [[*RUNS, DONE]], presses=[stage, *["state"] * again])
    code = play.run()
    assert code == (0 if stage == "delete" else 130)  # the run was done
    assert play.machines == []
    assert play.text.splitlines()[-1].startswith("no machine is left; spent: ")


@pytest.mark.parametrize("answer", ["keep", "delete", "again"])
def test_ctrl_c_asks_whether_the_machine_stays(answer, tmp_path):
    keep = {"keep": True, "delete": False, "again": KeyboardInterrupt()}[answer]
    play = Play(tmp_path, [ACTIVE], [RUNS], keep=keep)
    play.time.at = play.time.seconds + 200
    assert play.run() == 130
    assert play.asked == ["b2 is ACTIVE, 7.37 USD an hour. Keep it? [y/N] "]
    assert play.machines == (["b2"] if answer == "keep" else [])
    if answer == "keep":
        assert play.said[-1] == "  gcloud compute tpus queued-resources delete b2 --zone=us-central2-b --force --quiet"
        assert "b2 exists: ACTIVE, 7.37 USD an hour; spent: " in play.said[-2]
        again = Play(tmp_path, [ACTIVE], [[], [DONE]])  # takes up what is there
        again._begun, again.looks = {1}, [[{"step": 30}, DONE]]
        assert again.run() == 0
        assert "the run goes on already, in step 30" in again.text
        assert (again.machines, again.calls(CREATE)) == ([], 1)
    else:
        assert "the run is asked to save itself" in play.text
        assert play.calls("on_worker stop") == 1


def test_a_terminal_that_is_gone_is_not_asked(tmp_path):
    play = Play(tmp_path, [ACTIVE], [RUNS], keep=True)
    play.time.at, play.time.raised = play.time.seconds + 200, Hangup
    assert play.run() == 130
    assert (play.machines, play.asked) == ([], [])
