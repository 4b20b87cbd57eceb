"""From a request to a run that is done, whatever comes between; after each, the machines there are by the ledger of the
stand-in are those that are meant to be."""

import pytest

from tests.launching.played import CREATE, DELETE, DONE, Play
from xlatrain.launching.answer import Answer
from xlatrain.launching.until_done import Limits

ACTIVE = {"states": ["ACTIVE"]}
TAKEN = {"states": ["ACTIVE"] * 4 + ["SUSPENDING", "SUSPENDED"]}
RUNS = [{"step": 10}, {"step": 20}]
HUNG = Answer(-9, "", "ERROR: no end after 900 s")
RATE = 8 * 0.9215  # USD an hour: v4-16, 8 chips, spot


def test_created_waited_for_set_up_run_done_and_deleted(tmp_path):
    states = ["CREATING", "ACCEPTED", "WAITING_FOR_RESOURCES", "WAITING_FOR_RESOURCES", "PROVISIONING", "ACTIVE"]
    play = Play(tmp_path, [{"states": states}], [[*RUNS, DONE]])
    assert play.run() == 0
    assert play.machines == []
    assert play.text.splitlines() == [
        "try 1: asking for v4-16 (8 chips, 2 machines), spot, in us-central2-b",
        "CREATING",
        "ACCEPTED",
        "WAITING_FOR_RESOURCES",
        "PROVISIONING",
        "ACTIVE after 0:05:00: 7.37 USD an hour from here on",
        "set up: 2 workers, each with xlatrain 0.1.0, torch 2.9.1",
        "the run is started on 2 workers",
        "step 10",
        "done: top-1 0.8429, 224 steps; all of it is in gs://mine/runs",
        "b2 is deleted",
        "no machine is left; spent: 0.49 USD, 0.07 h",
    ]
    assert play.said[0].startswith("[ 0:00:00    0.00 USD] try 1: asking for v4-16 ")
    hours = 4 / 60  # a look before it was ACTIVE, and three of the run
    assert play.bill["usd"] == pytest.approx(RATE * hours, abs=0.01)
    assert (play.bill["status"], play.bill["tries"], len(play.bill["machines"])) == ("done", 1, 1)


def test_machines_that_are_taken_away_are_deleted_and_replaced_and_the_run_goes_on(tmp_path):
    play = Play(tmp_path, [TAKEN, TAKEN, ACTIVE], [RUNS, RUNS, [*RUNS, DONE]])
    assert play.run() == 0
    assert play.machines == []
    assert (play.calls(CREATE), play.calls(DELETE), play.bill["tries"]) == (3, 3, 3)
    assert "the machines are SUSPENDING; the run will go on from its last checkpoint, on other machines" in play.text
    assert "the next try is in 60 s" in play.text
    assert play.text.splitlines()[-1].startswith("no machine is left; spent: ")
    assert "in 3 machines" in play.text.splitlines()[-1]
    hours = sum(machine["until"] - machine["since"] for machine in play.bill["machines"]) / 3600
    assert play.bill["usd"] == pytest.approx(RATE * hours, abs=0.01)


def test_a_run_that_was_told_so_by_its_machine_ends_with_75_and_goes_on_elsewhere(tmp_path):
    told = {"state": "ended", "code": 75, "said": ""}
    play = Play(tmp_path, [{"states": ["ACTIVE"]}, ACTIVE], [[told], [DONE]])
    assert play.run() == 0
    assert (play.machines, play.calls(CREATE)) == ([], 2)
    assert "worker 0 has ended with exit code 75" in play.text
    assert "the run was told that its machine goes" in play.text


def test_one_that_crashes_as_its_slice_is_taken_away_is_not_a_failure(tmp_path):
    crashed = {"state": "ended", "code": 1, "said": "a process is gone"}
    script = [{"states": ["ACTIVE"] * 2 + ["SUSPENDED"]}, ACTIVE]
    play = Play(tmp_path, script, [[[{"step": 3}, crashed]], [DONE]])
    assert play.run() == 0
    assert (play.machines, play.calls(CREATE)) == ([], 2)


@pytest.mark.parametrize("other", [{"step": 0}, {"state": "ended", "code": 1, "said": "process 0 did not answer"}])
def test_a_run_that_was_finished_already_is_done_whoever_waits_for_it_still(other, tmp_path):
    play = Play(tmp_path, [ACTIVE], [[[DONE, other]]])
    assert play.run() == 0
    assert play.calls("on_worker stop") == 1
    assert (play.machines, play.calls(CREATE)) == ([], 1)


def test_a_run_on_some_machines_only_is_ended_there_and_started_on_all(tmp_path):
    play = Play(tmp_path, [ACTIVE], [[[{"step": 5}, {"state": "died"}], DONE]])
    play.pod.script.create()
    play.pod.ledger.asked = True
    play._begun = {1}
    assert play.run() == 0
    assert "the run goes on on 1 of 2 workers only: it is ended there first" in play.text
    assert (play.machines, play.calls(CREATE), play.calls("on_worker start")) == ([], 1, 1)


def test_a_machine_that_starts_anew_without_a_word_is_replaced(tmp_path):
    play = Play(tmp_path, [ACTIVE], [[{"state": "died"}], [DONE]])
    assert play.run() == 0
    assert (play.machines, play.calls(CREATE)) == ([], 2)
    assert "the run on worker 0 is gone without a word" in play.text


@pytest.mark.parametrize(
    ("script", "looks", "code", "said", "creates"),
    [
        ([{"refuse": "RESOURCE_EXHAUSTED: Quota limit 'TPUV4sPreemptiblePodPerProject' has been exceeded"}], [], 1,
         "refused: RESOURCE_EXHAUSTED: Quota limit", 1),
        ([{"states": ["CREATING", "FAILED"], "failed": "Quota 'TPUV4' exceeded"}], [], 1,
         "the quota does not allow it: Quota 'TPUV4' exceeded", 1),
        ([{"refuse": "There is no more capacity in the zone"}, ACTIVE], [], 0, "There is no more capacity", 2),
        ([{"refuse": "UNAVAILABLE: The service is currently unavailable."}, ACTIVE], [], 0, "UNAVAILABLE: The", 2),
        ([{"states": ["CREATING", "FAILED"], "failed": "no more capacity in the zone"}, ACTIVE], [[DONE], [DONE]], 0,
         "FAILED: no more capacity in the zone", 2),
        ([{"refuse": "PERMISSION_DENIED: tpu.nodes.create"}], [], 1, "PERMISSION_DENIED", 1),
        ([ACTIVE], [[[{"step": 2}, {"state": "ended", "code": 1, "said": "ValueError: bad"}]]], 1,
         "the run failed on worker 1:\nValueError: bad", 1),
        ([ACTIVE], [[{"state": "ended", "code": 2, "said": "train.seed: no"}]], 2, "the configuration is wrong", 1),
        ([ACTIVE], [[{"state": "ended", "code": 75, "said": "", "asked": True}]], 75, "stopped as asked", 1),
        ([ACTIVE], [[{"state": "ended", "code": 0, "said": ""}]], 1, "no summary says that it is done", 1),
    ],
    ids=["quota", "quota later", "capacity", "unavailable", "capacity later", "no right", "fails", "wrong", "stopped",
         "nothing"],
)  # fmt: skip
def test_how_it_may_end(script, looks, code, said, creates, tmp_path):
    play = Play(tmp_path, script, looks)
    assert play.run() == code
    assert play.machines == []
    assert said in play.text
    assert play.calls(CREATE) == creates
    assert play.text.splitlines()[-1].startswith("no machine is left; spent: ")


def test_waits_grow_while_no_machines_come_and_end_with_the_tries(tmp_path):
    play = Play(tmp_path, [{"refuse": "no more capacity in the zone"}], limits=Limits(None, None, 4, 60.0))
    assert play.run() == 75
    assert play.machines == []
    waits = [line.partition("in ")[2] for line in play.text.splitlines() if line.startswith("the next try")]
    assert waits == ["60 s", "120 s", "240 s"]
    assert "4 tries of launch.max_tries=4 are made" in play.text


def test_a_request_that_waits_too_long_is_withdrawn(tmp_path):
    play = Play(tmp_path, [{"states": ["WAITING_FOR_RESOURCES"]}, ACTIVE], seconds=3600.0)
    play.loop._limits = Limits(None, None, 2, 60.0)
    assert play.run() == 0
    assert (play.machines, play.calls(CREATE)) == ([], 2)
    assert "no machines within 24 h" in play.text


@pytest.mark.parametrize("stage", [0, 1, 2, 3, 4])
def test_a_connection_that_breaks_once_at_any_stage_of_the_setup_stops_nothing(stage, tmp_path):
    play = Play(tmp_path, [{"states": ["ACTIVE"], "unreachable_from": stage, "unreachable": 1}])
    assert play.run() == 0
    assert (play.machines, play.calls(CREATE)) == ([], 1)
    assert "exited with return code [255].; once more" in play.text


def test_a_connection_that_breaks_stops_nothing(tmp_path):
    script = [{"states": ["ACTIVE"], "unreachable_from": 6, "unreachable": 3}]
    play = Play(tmp_path, script, [[{"step": 1}, {"step": 2}, DONE]])
    assert play.run() == 0
    assert (play.machines, play.calls(CREATE)) == ([], 1)
    assert "no worker can be reached; the run goes on without this connection" in play.text
    assert "workers can be reached again" in play.text


def test_machines_that_cannot_be_reached_for_long_are_not_paid_for(tmp_path):
    script = [{"states": ["ACTIVE"], "unreachable_from": 6, "unreachable": 99}, ACTIVE]
    play = Play(tmp_path, script, [RUNS, [DONE]])
    assert play.run() == 0
    assert (play.machines, play.calls(CREATE)) == ([], 2)


BROKEN = {"worker": 1, "says": "No space left on device"}


def test_a_worker_that_fails_in_setup_is_named_and_tried_once_more(tmp_path):
    play = Play(tmp_path, [{"states": ["ACTIVE"], "broken": {**BROKEN, "times": 1}}])
    assert play.run() == 0
    assert "setup failed: worker 1: No space left on device; once more" in play.text
    assert play.machines == []
    (tmp_path / "twice").mkdir()
    play = Play(tmp_path / "twice", [{"states": ["ACTIVE"], "broken": {**BROKEN, "times": 2}}])
    assert play.run() == 1
    assert "setup failed twice: worker 1: No space left on device" in play.text
    assert play.machines == []


def test_a_version_that_differs_and_what_the_doctor_finds_are_named_with_their_workers(tmp_path):
    finding = {"check": "TPU holder", "text": "process 4242 holds /dev/accel0", "cure": "kill 4242"}
    checks = {0: {"failed": [finding]}, 1: {"versions": {"xlatrain": "0.0.9", "torch": "2.9.1"}, "failed": [finding]}}
    play = Play(tmp_path, [ACTIVE], checks=checks)
    assert play.run() == 2
    assert "worker 1 has xlatrain 0.0.9, not 0.1.0" in play.text
    assert "worker 0-1: TPU holder: process 4242 holds /dev/accel0; cure: kill 4242" in play.text
    assert play.machines == []


@pytest.mark.slow
def test_the_bill_stays_below_its_limit_and_the_run_is_saved_before(tmp_path):
    play = Play(tmp_path, [ACTIVE], [RUNS], limits=Limits(2.0, None, 20, 60.0))
    assert play.run() == 75
    assert play.machines == []
    assert "launch.max_usd=2 is all but reached: the run is asked to save itself" in play.text
    spent = play.bill["usd"]
    assert 1.8 < spent <= 2.0
    again = Play(tmp_path, [ACTIVE], [[DONE]], limits=Limits(2.0, None, 20, 60.0))  # what was spent stays spent
    assert again.run() == 75
    assert "launch.max_usd=2 is all but reached" in again.text
    assert again.calls(CREATE) == 1
    more = Play(tmp_path, [ACTIVE], [[DONE]], limits=Limits(3.0, None, 20, 60.0))
    assert more.run() == 0
    assert spent < more.bill["usd"] <= 3.0


def test_neither_a_run_that_does_not_end_nor_a_gcloud_that_hangs_passes_the_limit(tmp_path, monkeypatch):
    play = Play(tmp_path, [ACTIVE], [RUNS], limits=Limits(2.0, None, 20, 60.0))
    running = {n: {"state": "running", "step": 20} for n in range(2)}
    monkeypatch.setattr(play.pod, "_ask", lambda verb: running)
    assert play.run() == 75
    assert play.machines == []
    assert 1.8 < play.bill["usd"] <= 2.05  # a minute is kept for it, and a look more

    (tmp_path / "hangs").mkdir()
    play = Play(tmp_path / "hangs", [ACTIVE], limits=Limits(2.0, None, 20, 60.0))
    script, sleep = play.pod.script, play.time.sleep
    monkeypatch.setattr(script, "setup", lambda: (sleep(min(1800.0, script.left())), HUNG)[1])
    assert play.run() == 75
    assert play.machines == []
    assert play.bill["usd"] <= 2.0
    assert "launch.max_usd=2 is all but reached" in play.text
    assert "save itself" not in play.text  # there is no run


@pytest.mark.slow
def test_hours_have_a_limit_too(tmp_path):
    play = Play(tmp_path, [ACTIVE], [RUNS], limits=Limits(None, 0.5, 20, 60.0))
    assert play.run() == 75
    assert 0.4 < play.bill["hours"] <= 0.5
    assert play.machines == []


def test_a_machine_that_will_not_go_is_told_with_the_command_that_deletes_it(tmp_path):
    play = Play(tmp_path, [{"states": ["ACTIVE"], "stays": 2}])
    assert play.run() == 0
    assert play.machines == []
    assert "b2 is not deleted yet, it is ACTIVE: UNAVAILABLE" in play.text
    (tmp_path / "never").mkdir()
    play = Play(tmp_path / "never", [{"states": ["ACTIVE"], "stays": 99}])
    assert play.run() == 1
    assert play.machines == ["b2"]
    assert "b2 exists: ACTIVE, 7.37 USD an hour" in play.said[-2]
    assert "queued-resources delete b2" in play.said[-1]


@pytest.mark.slow
def test_a_machine_that_went_while_nobody_looked_counts_until_it_was_last_seen(tmp_path):
    play = Play(tmp_path, [ACTIVE], [RUNS], keep=True)
    play.time.at = play.time.seconds + 1800
    assert play.run() == 130
    spent = play.bill["usd"]
    play.pod.script.delete()  # by hand
    again = Play(tmp_path, [ACTIVE], [[], [DONE]])
    again.time.seconds = play.time.seconds + 86400
    assert again.run() == 0
    assert "b2 is gone, since when is not known: counted until it was last seen" in again.text
    assert spent < again.bill["usd"] < spent + 0.5


def test_a_fault_of_ours_leaves_no_machine(tmp_path, monkeypatch):
    play = Play(tmp_path, [ACTIVE])
    monkeypatch.setattr(play.pod, "start", lambda: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        play.run()
    assert play.machines == []
    assert "this was not foreseen: ZeroDivisionError" in play.text
