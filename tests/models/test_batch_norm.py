"""Batch norm over a group of replicas equals torch's, in float64, over the images of the group."""

import pytest
import torch

from tests.replica_jobs import plain_batch_norm
from xlatrain.xla.launch import launch

pytestmark = pytest.mark.replicas

REPLICAS, IMAGES = 8, 16
SIZES = [1, 2, 4, 8]


def compare(mean, bf16, steps, replicas=REPLICAS, images=IMAGES, sizes=SIZES):
    """The largest difference of each result to torch's, relative to its largest value, over all groups and sizes."""
    found = launch("tests.replica_jobs:run_batch_norm", sizes, images, mean, bf16, steps, replicas=replicas)
    gaps: dict[str, float] = {}
    for size in sizes:
        for start in range(0, replicas, size):
            group = [found[i][size] for i in range(start, start + size)]
            share = images // replicas
            rows = slice(start * share, (start + size) * share)
            expected = plain_batch_norm(mean, images, rows, bf16, steps)
            ours = {k: torch.cat([r[k] for r in group]) for k in ("y", "dx")}
            ours |= {k: torch.stack([r[k] for r in group]).sum(0) for k in ("dw", "db")}
            ours |= {k: group[0][k] for k in ("running_mean", "running_var")}
            for name, tensor in ours.items():
                gap = (tensor.double() - expected[name]).abs().max() / expected[name].abs().max()
                gaps[name] = max(gaps.get(name, 0.0), gap.item())
            assert all(torch.equal(r["running_var"], group[0]["running_var"]) for r in group)
    return gaps


def test_groups_of_1_2_4_and_8_in_float32():
    """1e-5 of a tensor's largest value: sums of 32 to 256 float32 values, in another order."""
    assert max(compare(0.0, bf16=False, steps=3).values()) < 1e-5


def test_groups_in_bf16_to_its_resolution():
    """Outputs are rounded to 8 bits; so is the gradient that comes in, whose sums partly cancel, and the one that goes
    out once more. The statistics stay float32."""
    gaps = compare(0.0, bf16=True, steps=3)
    assert gaps["y"] < 2**-8
    assert max(gaps["dx"], gaps["dw"], gaps["db"]) < 2**-6
    assert max(gaps["running_mean"], gaps["running_var"]) < 1e-5


def test_a_mean_of_a_thousand_deviations_leaves_the_variance_its_digits():
    """In the first step, the running mean still 0, as well as when it has come near. A mean of 1000 is itself rounded
    to 3e-5, a shift of all outputs by as much of a deviation (torch's float32 batch norm has it too), which the
    gradient of the weight sums up."""
    for steps in (1, 60):
        gaps = compare(1000.0, bf16=False, steps=steps)
        assert max(gaps["running_mean"], gaps["running_var"]) < 1e-5
        assert max(gaps["y"], gaps["dx"]) < 1e-4
        assert gaps["dw"] < 2e-3


def test_groups_above_32_exchange_the_mean_first():
    """36 replicas in one group: the other way to combine moments, of the same result."""
    gaps = compare(1000.0, bf16=False, steps=1, replicas=36, images=36, sizes=[36])
    assert max(gaps["running_mean"], gaps["running_var"]) < 1e-5
