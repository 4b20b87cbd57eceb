"""Which replicas have equal statistics, and a state given back to the same or other replicas."""

import pytest
import torch

from xlatrain.engine.snapshot import GatherStep, give_back, refined
from xlatrain.engine.state import first_seed
from xlatrain.errors import CheckpointError


def test_replicas_are_alike_that_share_a_group_in_every_phase():
    world, pairs = [[0, 1, 2, 3]], [[0, 1], [2, 3]]
    assert refined([world], 4) == world
    assert refined([pairs], 4) == pairs
    assert refined([world, pairs], 4) == pairs
    assert refined([pairs, [[0, 2], [1, 3]]], 4) == [[0], [1], [2], [3]]
    assert refined([[[0, 1, 2], [3, 4, 5]], [[0, 1], [2, 3], [4, 5]]], 6) == [[0], [1], [2], [3], [4], [5]]


def test_a_gather_takes_a_member_of_each_group(monkeypatch):
    rings = []
    monkeypatch.setattr("xlatrain.engine.snapshot.all_gather", lambda tensor, groups: rings.append(groups))
    GatherStep([[0, 1], [2, 3]])({}, {"buffers": None})
    GatherStep([[0], [1]])({}, {"buffers": None})
    assert rings == [[[0, 2], [1, 3]], None]


SAVED = {"params": torch.ones(4), "buffers": torch.tensor([[1.0, -0.0], [3.0, 4.0]]), "step": torch.tensor(5)}
FRESH = {"params": torch.zeros(4), "buffers": torch.zeros(2), "step": torch.tensor(0), "rng": torch.tensor(1)}


def test_each_replica_has_its_group_s_row_and_its_seed():
    groups = [[0, 1], [2, 3]]
    for ordinal in range(4):
        state, averaged = give_back(SAVED, groups, FRESH, groups, 7, ordinal)
        assert not averaged
        assert torch.equal(state["buffers"].view(torch.int32), SAVED["buffers"][ordinal // 2].view(torch.int32))
        assert int(state["rng"]) == first_seed(7, ordinal) + 5


def test_other_groups_have_the_mean():
    state, averaged = give_back(SAVED, [[0, 1], [2, 3]], FRESH, [[0], [1]], 7, 1)
    assert averaged
    assert state["buffers"].tolist() == [2.0, 2.0]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"params": None}, "params is missing"),
        ({"params": torch.ones(5)}, r"params is torch.float32\[5\]"),
        ({"params": torch.ones(4, dtype=torch.float64)}, r"params is torch.float64\[4\]"),
        ({"buffers": torch.ones(2, 3)}, r"buffers is torch.float32\[3\]"),
    ],
)
def test_a_state_that_does_not_fit_is_named(change, words):
    saved = {name: t for name, t in {**SAVED, **change}.items() if t is not None}
    with pytest.raises(CheckpointError, match=words):
        give_back(saved, [[0], [1]], FRESH, [[0], [1]], 0, 0)
