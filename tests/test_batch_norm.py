"""Batch norm over a group of replicas equals torch's over the group's whole batch."""

import pytest
import torch

from tests.replica_jobs import plain_batch_norm
from xlatrain.xla.launch import launch


@pytest.mark.replicas
@pytest.mark.parametrize(("mean", "tolerance"), [(0.0, 1e-5), (30.0, 1e-4)])
def test_statistics_of_the_world_are_those_of_the_whole_batch(mean, tolerance):
    """1e-5 of the tensor's largest value, in float32. With a mean of 30 to 60 deviations, three steps from a running
    mean of 0, the variance loses (30 · 0.73)² · 1e-7, so 1e-4 is asked for; E[x²] - E[x]² about 0 would lose twice."""
    found = launch("tests.replica_jobs:run_batch_norm", [8], mean, replicas=8)["by_replica"]
    expected = plain_batch_norm(mean)
    ours = {"y": torch.cat([r[8]["y"] for r in found]), "dx": torch.cat([r[8]["dx"] for r in found])}
    ours |= {k: found[0][8][k] for k in ("dw", "db", "running_mean", "running_var")}
    for name, tensor in ours.items():
        gap = (tensor.double() - expected[name]).abs().max() / expected[name].abs().max()
        assert gap < tolerance, f"{name}: {gap:.1e}"
    for r in found[1:]:
        assert torch.equal(r[8]["running_var"], found[0][8]["running_var"])


@pytest.mark.replicas
def test_groups_of_1_2_and_4_are_batch_norms_of_their_own():
    found = launch("tests.replica_jobs:run_batch_norm", [1, 2, 4], 0.0, replicas=8)["by_replica"]
    x = torch.cat([r[1]["y"] for r in found])
    assert x.shape == (16, 3, 4, 4)
    for size in (1, 2, 4):
        for start in range(0, 8, size):
            group = torch.cat([found[i][size]["y"] for i in range(start, start + size)])
            moments = group.mean((0, 2, 3)), group.var((0, 2, 3), unbiased=False)
            torch.testing.assert_close(moments[0], torch.tensor([0.1, 0.0, -1.0]), rtol=0, atol=1e-5)
            torch.testing.assert_close(moments[1], torch.tensor([1.0, 0.25, 4.0]), rtol=1e-4, atol=0)
