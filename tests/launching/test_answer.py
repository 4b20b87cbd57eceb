"""What gcloud says, read."""

import pytest

from xlatrain.launching.answer import ACTIVE, FAILED, GONE, MARK, UNKNOWN, Answer, State, state_of
from xlatrain.launching.workers import Progress

NO_PROJECT = """ERROR: (gcloud.compute.tpus.queued-resources.describe) Error parsing [queued_resource].
The [queued_resource] resource is not properly specified.
Failed to find attribute [project]. The attribute can be set in the following ways:
- provide the argument `queued_resource` on the command line with a fully specified name
- provide the argument `--project` on the command line
- set the property `core/project`
"""  # of SDK 528


def test_states_are_read():
    assert state_of(Answer(0, '{"state": {"state": "ACTIVE"}}')) == State(ACTIVE)
    failed = '{"state": {"state": "FAILED", "failedData": {"error": {"code": 8, "message": "no more"}}}}'
    assert state_of(Answer(0, failed)) == State(FAILED, "no more")
    gone = "ERROR: (gcloud.compute.tpus.queued-resources.describe) NOT_FOUND: Resource 'x' was not found\n"
    assert state_of(Answer(1, "", gone)) == State(GONE)


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (Answer(127, "", "bash: line 1: gcloud: command not found"), "gcloud: command not found"),
        (Answer(1, "", NO_PROJECT), "Failed to find attribute [project]"),
        (Answer(0, "{}"), "{}"),
        (Answer(0, "null"), "null"),
        (Answer(1, "", "ERROR: (gcloud.x) PERMISSION_DENIED: no"), "PERMISSION_DENIED: no"),
        (Answer(124), "exit code 124"),
    ],
)
def test_what_gcloud_cannot_say_is_not_taken_for_no_machine(answer, said):
    state = state_of(answer)
    assert state.name == UNKNOWN
    assert said in state.said
    assert len(state.said) < 250


def test_progress_is_told_less_and_less_often_and_what_is_sick_when_it_is_seen_twice():
    progress, ill = Progress(60.0), {"step": 3, "sick": ["h:1 is silent, in step 3"]}
    looks = [
        (0, {0: {"step": 1}, 1: {"step": 1}}, ["step 1"]),
        (30, {0: {"step": 2}, 1: {"step": 2}}, []),
        (60, {0: {"step": 3}, 1: ill}, ["step 3"]),
        (90, {0: {"step": 4}, 1: {"step": 4}}, []),  # it was nothing
        (120, {0: {"step": 5}}, []),
        (180, {0: {"step": 6}}, ["step 6", "worker 1: no answer"]),
        (210, {0: {"step": 7}}, []),
        (240, {0: {"step": 8}, 1: {"step": 8}}, []),
        (270, {0: {"step": 9}, 1: {"step": 9}}, ["all workers are well again"]),
        (300, {0: {"step": 10, "idle": 1.0}, 1: {"step": 9, "idle": 1.0}}, []),  # seen a little earlier
        (330, {0: {"step": 11, "idle": 29.0}, 1: {"step": 9, "idle": 31.0}}, []),
        (360, {0: {"step": 11, "idle": 59.0}, 1: {"step": 9, "idle": 61.0}},
         ["worker 1: behind: in step 9, others in 11"]),
    ]
    assert [list(progress.lines(said, 2, now)) for now, said, _ in looks] == [lines for *_, lines in looks]


def test_machines_are_heard_through_what_ssh_says():
    text = f"Warning: Permanently added 'x'\n{MARK}{{\"state\": \"running\"}}\n"
    torn = f'{MARK}{{"state": "run'
    said = Answer(0, workers={0: text, 1: "Permission denied", 2: torn, 3: f"{torn}\n{text}"}).of_workers
    assert said == {0: {"state": "running"}, 3: {"state": "running"}}
