"""What is left open comes to what the documents promise."""

import pytest

from xlatrain.preflight.check import check
from xlatrain.preflight.resolve import describe_short_warmup


def test_a_phase_has_its_own_groups_of_batch_norm():
    """128 images a group: 16 replicas of 64 images are groups of two, of 8 all sixteen."""
    sizes = "augment.sizes=[{until: 1ep, size: 16, batch: 1024}, {size: 32}]"
    plan = check([sizes, "model.sync_bn_group=auto", "cluster.replicas=16"])
    assert [(p.image_size, p.bn_group) for p in plan.phases] == [(16, 2), (32, 16)]
    assert [(p.first_step, p.global_batch) for p in plan.phases] == [(0, 1024), (1, 128)]


@pytest.mark.parametrize(
    ("overrides", "steps", "words"),
    [
        ([], 56, None),  # 5 of 20 epochs
        (["train.duration=10ep"], 28, "the default of 5ep, 56 steps, gives way to a quarter of this run, 28 of 112"),
        (["train.duration=3step"], 0, "gives way to a quarter of this run, 0 of 3"),
        (["schedule=step", "train.duration=3ep"], 8, "the default of 1ep, 11 steps, gives way"),
        (["scaling.rule=sqrt", "scaling.lr_per_256=0.1", "train.duration=10ep"], 28, "the default of 5ep"),
        (["schedule.warmup=8ep", "train.duration=10ep"], 89, None),
        (["schedule.warmup=20ep"], 224, None),
        (["scaling.rule=legw", "scaling.base_lr=0.1", "scaling.base_batch=64"], 112, None),
        (["schedule=onecycle", "train.duration=1ep"], 0, None),
    ],
)
def test_the_default_warm_up_gives_way_to_a_short_run_and_says_so(overrides, steps, words):
    plan = check(overrides)
    text = describe_short_warmup(plan.config, plan.lengths, plan.schedule)
    assert plan.schedule.warmup_steps == steps
    assert words in text if words else text is None
