"""What gcloud says, read."""

import pytest

from xlatrain.launching.answer import ACTIVE, FAILED, GONE, MARK, UNKNOWN, Answer, State, state_of

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


def test_machines_are_heard_through_what_ssh_says():
    text = f"Warning: Permanently added 'x'\n{MARK}{{\"state\": \"running\"}}\n"
    assert Answer(0, workers={0: text, 1: "Permission denied"}).of_workers == {0: {"state": "running"}}
