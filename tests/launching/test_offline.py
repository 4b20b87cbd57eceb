"""A computer that is offline for a while deletes nothing in haste, asks for nothing twice, and goes on."""

import pytest

from tests.launching.played import CREATE, DONE, Play

ACTIVE = {"states": ["ACTIVE"]}
TAKEN = {"states": ["ACTIVE"] * 4 + ["SUSPENDING", "SUSPENDED"]}
RUNS = [{"step": 10}, {"step": 20}]


def offline(monkeypatch, play, first, last):
    """Have gcloud not be reached, from the first to the last of its calls."""
    call, count = play.cloud.call, iter(range(10**6))

    def or_not(words):
        return (1, "", "ERROR: no network") if first <= next(count) <= last else call(words)

    monkeypatch.setattr(play.cloud, "call", or_not)


def test_a_computer_that_is_offline_waits_and_deletes_nothing_in_haste(tmp_path, monkeypatch):
    play = Play(tmp_path, [ACTIVE], [[*RUNS, DONE]])
    offline(monkeypatch, play, 10, 41)
    assert play.run() == 0
    assert (play.machines, play.calls(CREATE)) == ([], 1)
    assert "gcloud does not answer: no network" in play.text
    assert "gcloud answers again" in play.text


@pytest.mark.parametrize("first", [12, 13], ids=["as the run ends", "before"])
def test_what_cannot_be_deleted_for_want_of_a_network_is_tried_for_hours(first, tmp_path, monkeypatch):
    play = Play(tmp_path, [ACTIVE], [[DONE]])
    offline(monkeypatch, play, first, 202)
    assert play.run() == 0
    assert play.machines == []
    said = [line for line in play.text.splitlines() if "is not deleted yet" in line]
    assert [line.split()[7] for line in said] == ["UNKNOWN:", "ACTIVE:"]  # the network came back in between


@pytest.mark.parametrize("after", [2, 3, 4, 5], ids=["deleted", "to look", "to look again", "to ask"])
def test_a_computer_that_is_offline_as_machines_are_replaced_asks_for_others_later(after, tmp_path, monkeypatch):
    play = Play(tmp_path, [TAKEN, ACTIVE], [RUNS, [*RUNS, DONE]])
    call, since = play.cloud.call, []

    def or_not(words):
        if "delete" in words or since:
            since.append(words)
        return (1, "", "ERROR: no network") if after <= len(since) < after + 3 else call(words)

    monkeypatch.setattr(play.cloud, "call", or_not)
    assert play.run() == 0
    assert (play.machines, play.calls(CREATE)) == ([], 2)


def test_gcloud_that_does_not_answer_asks_for_nothing(tmp_path, monkeypatch):
    play = Play(tmp_path, [ACTIVE])
    offline(monkeypatch, play, 0, 99)
    assert play.run() == 1
    assert "gcloud does not say what there is: no network" in play.text
    assert "whether b2 exists, 7.37 USD an hour, gcloud does not say" in play.said[-2]
