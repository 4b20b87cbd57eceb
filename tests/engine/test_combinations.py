"""Every optimizer in both precisions, with and without micro-batches: one compile, and replayed equals traced."""

import itertools
import math

import pytest

from tests.nets import SMALL
from xlatrain.config.choices import groups
from xlatrain.preflight.check import check
from xlatrain.xla.launch import launch

pytestmark = pytest.mark.one_replica

# Pairwise: each optimizer in each precision, with and without micro-batches, and each of these two with the other. All
# twenty triples take twice as long and met nothing more.
COMBINATIONS = [
    [f"optimizer={o}", f"precision={p}", f"gradient.accumulate={1 + (i + j) % 2}"]
    for (i, o), (j, p) in itertools.product(enumerate(groups()["optimizer"]), enumerate(("fp32", "bf16")))
]
OTHER_SEED = [*COMBINATIONS[0], "train.seed=1"]


@pytest.fixture(scope="module")
def results():
    common = ["cluster.replicas=1", "train.global_batch=16", SMALL, "+model.kwargs.drop=0.1", "augment.mixup=0.2"]
    plans = {" ".join(c): check([*common, *c]) for c in (*COMBINATIONS, OTHER_SEED)}
    return launch("tests.replica_jobs:run_combination_steps", plans, replicas=1)


@pytest.mark.parametrize("combination", COMBINATIONS, ids=" ".join)
def test_one_compile_and_replayed_equals_traced(results, combination):
    losses, compiles = results[" ".join(combination)]
    assert compiles == {True: 1, False: 0}  # the traced step finds the replayed one's program
    assert losses[True] == losses[False]
    assert all(map(math.isfinite, losses[True]))
    assert len(set(losses[True])) == 3


def test_another_seed_gives_another_run(results):
    assert not set(results[" ".join(OTHER_SEED)][0][True]) & set(results[" ".join(COMBINATIONS[0])][0][True])
