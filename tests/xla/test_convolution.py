"""Convolutions written through the builder give on a device what torch's give on the CPU."""

import pytest

from xlatrain.xla.launch import launch

pytestmark = pytest.mark.one_replica


def test_forward_and_kernel_gradient_with_and_without_groups():
    """float32; 1e-5 of the largest value."""
    for name, (found, expected) in launch("tests.replica_jobs:run_convolutions", replicas=1).items():
        assert found.shape == expected.shape, name
        assert (found - expected).abs().max() <= 1e-5 * expected.abs().max(), name
