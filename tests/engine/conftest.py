"""Runs that several files of this room look at, each made once."""

import pytest

from tests.runs import EXACT, RANDOM, train


@pytest.fixture(scope="session")
def root(tmp_path_factory):
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="session")
def by_replicas(root):
    return {n: train(root, f"exact-{n}", *EXACT, f"cluster.replicas={n}") for n in (1, 8)}


@pytest.fixture(scope="session")
def random_run(root):
    return train(root, "random", *RANDOM)
