"""Batch norm over a group of replicas equals torch's, in float64, over the images of the group."""

import pytest
import torch

from tests.replica_jobs import plain_batch_norm
from xlatrain.xla.launch import launch

pytestmark = pytest.mark.replicas

REPLICAS, IMAGES = 8, 16
SIZES = [1, 2, 4, 8]


def compare(mean, bf16, steps):
    """The largest difference of each result to torch's, relative to its largest value, over all groups and sizes."""
    found = launch("tests.replica_jobs:run_batch_norm", SIZES, mean, bf16, steps, replicas=REPLICAS)
    gaps: dict[str, float] = {}
    for size in SIZES:
        for start in range(0, REPLICAS, size):
            group = [found[i][size] for i in range(start, start + size)]
            share = IMAGES // REPLICAS
            expected = plain_batch_norm(mean, slice(start * share, (start + size) * share), bf16, steps)
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


def test_a_mean_of_a_thousand_deviations_costs_only_the_first_steps():
    """The shift is the running mean: 0 at first, when the variance loses 1e-7 · 1000² / var, all of its digits where
    the deviation is one half. After 60 steps it is within 2 of the mean, and what is left is the rounding of x itself:
    float32 has steps of 6e-5 at 1000."""
    after = compare(1000.0, bf16=False, steps=60)
    assert max(after["y"], after["running_mean"]) < 1e-3
    assert after["running_var"] < 0.5  # still holds the first steps, at 0.9^60 of their weight and falling
    assert torch.isfinite(torch.tensor(list(compare(1000.0, bf16=False, steps=1).values()))).all()
