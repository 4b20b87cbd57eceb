"""Replicas end together, and say why."""

import pytest

from xlatrain.errors import ReplicaError
from xlatrain.xla.launch import launch

pytestmark = pytest.mark.replicas


def test_a_replica_that_raises_ends_all_with_its_traceback_last():
    with pytest.raises(ReplicaError) as error:
        launch("tests.replica_jobs:raise_on", 3, replicas=4)
    assert error.value.report.startswith("replica 3 failed")
    assert error.value.report.strip().splitlines()[-1] == "RuntimeError: this replica is the one that fails"
