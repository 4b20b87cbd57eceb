"""Replicas, replaying, another start: the same run to the last digit, or to rounding."""

import itertools

import pytest

from tests.engine.plain_pytorch import plain_losses
from tests.runs import EXACT, RANDOM, lines, losses, train

pytestmark = pytest.mark.replicas


def test_replicas_agree_with_each_other_and_with_plain_pytorch(by_replicas):
    """1e-4 relative over 5 losses and 5e-3 over 20: float32 sums in another order, which training amplifies. Plain
    PyTorch on two threads is within 1e-3 of replicas, on one thread, which sums otherwise, within 2.9e-3."""
    found = {"plain": plain_losses(EXACT), **{n: losses(s) for n, s in by_replicas.items()}}
    assert all(len(row) == 20 for row in found.values())
    for a, b in itertools.combinations(found.values(), 2):
        assert b[:5] == pytest.approx(a[:5], rel=1e-4)
        assert b == pytest.approx(a, rel=5e-3)


def test_replayed_equals_traced_with_everything_random_switched_on(root, random_run):
    """And the same seed, in another process, gives the same run."""
    traced = train(root, "random-traced", *RANDOM, "engine.replay=false")
    assert losses(traced) == losses(random_run)
    assert [r["loss"] for r in lines(traced, "eval")] == [r["loss"] for r in lines(random_run, "eval")]
    assert traced["sha256"] == random_run["sha256"]


def test_one_compile_a_step_and_nothing_on_the_cpu_behind_ones_back(by_replicas, random_run):
    for summary in (*by_replicas.values(), random_run):
        assert summary["compiles"] == {"train": 1, "eval": 1}
        assert summary["cpu_fallbacks"] == {}
    assert by_replicas[1]["other_compiles"] == 0
    assert by_replicas[8]["other_compiles"] == 1  # that replicas start equal
    assert random_run["other_compiles"] == 2  # and that groups' statistics are made equal
