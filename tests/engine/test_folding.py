"""A run on folded images is the run on plain ones."""

import pytest
import torch
from safetensors.torch import load_file

from tests.nets import MOBILE, Mobile
from tests.runs import lines, losses, train

pytestmark = [pytest.mark.replicas, pytest.mark.long]

# All that a folded layer could spoil: draws of stochastic depth and mixup, micro-batches, statistics over replicas,
# averages of weights and statistics, the evaluation step. 112 pixels, so that the last block is folded in groups.
GIVEN = [
    MOBILE, "+model.kwargs.drop_path=0.3", "data.image_size=112", "train.global_batch=4", "cluster.replicas=2",
    "gradient.accumulate=2", "augment.mixup=0.2", "model.sync_bn_group=2", "ema=on", "train.duration=2step",
    "train.log_every=1step", "train.eval_every=2step", "data=synthetic", "data.num_classes=10",
    "data.train_examples=32", "data.val_examples=2",
    "optimizer.lr=0.05", "schedule.warmup=0step", "augment=none",
]  # fmt: skip


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    root = tmp_path_factory.mktemp("folded")
    return [train(root, f"fold-{fold}", *GIVEN, f"model.fold={fold}") for fold in ("false", "true")]


def test_losses_and_evaluation_are_those_of_plain_images(pair):
    """float32, two steps: 1e-4, since sums are taken in another order."""
    plain, folded = pair
    assert losses(folded) == pytest.approx(losses(plain), rel=1e-4)
    assert [row["loss"] for row in lines(folded, "eval")] == pytest.approx(
        [row["loss"] for row in lines(plain, "eval")], rel=1e-4
    )


def test_weights_are_those_of_the_plain_model(pair):
    files = [load_file(f"{summary['run']}/weights.safetensors") for summary in pair]
    Mobile(10).load_state_dict(files[1])
    for name, expected in files[0].items():
        gap = (files[1][name] - expected).abs().max().float()
        assert gap <= 1e-3 * torch.clamp_min(expected.abs().max().float(), 1e-2), name
