"""Every choice in conf/ composes and passes the checks, and comes to what Hydra makes of it."""

import math
import shlex
import subprocess

import pytest
from hydra.errors import HydraException
from omegaconf import OmegaConf

from xlatrain.config import compose
from xlatrain.config.choices import groups
from xlatrain.config.compose import compose_config
from xlatrain.config.override import option_keys, parse_override
from xlatrain.config.schema import RMSpropTFConfig
from xlatrain.errors import ConfigError
from xlatrain.preflight.check import check

ON_SHARDS = ("shards", "imagenet", "imagenet_torchvision", "imagenet_95", "cifar10")
SLICES = [name for name in groups()["cluster"] if name.startswith("tpu")]
# The larger models differ from the first in numbers alone, and take longer to build.
SLOW = ("cluster",)
LARGE = [f"efficientnet_b{n}" for n in range(1, 8)]
CHOICES = [
    pytest.param(group, name, marks=pytest.mark.slow if name in LARGE or group in SLOW else [], id=f"{group}-{name}")
    for group, names in groups().items()
    for name in names
    if name not in SLICES and group not in ("sweep", "recipe")  # tests/cli/test_sweep.py, test_recipes.py
]


@pytest.mark.parametrize(("group", "name"), CHOICES)
def test_every_choice_composes_and_passes_the_checks(group, name, tmp_path):
    overrides = [f"{group}={name}", *(["data.root=" + str(tiny_shards(tmp_path))] if name in ON_SHARDS else [])]
    overrides += ["data._target_=examples.stripes.Stripes"] * (name == "own")
    overrides += ["data.image_size=227"] * (name == "alexnet_bn")  # which has nothing left of a digit's 32 pixels
    assert check(overrides, starts=False).lengths.total_steps > 0  # on GPU too, of which there is none here


@pytest.mark.slow
@pytest.mark.parametrize("name", SLICES)
def test_a_slice_passes_the_checks_and_is_one_whole(name):
    """Chips, replicas, hosts and name agree, and a chip's clock with its peak: whole matrix units of 128 x 128."""
    batch = "train.global_batch=98304"  # a slice has up to 6,144 replicas
    cluster = check([f"cluster={name}", "data=synthetic", "augment=none", batch]).config.cluster
    chips = math.prod(cluster.topology)
    assert cluster.replicas == chips * cluster.chip.devices
    assert chips <= cluster.hosts * 4 * (2 if name.endswith("_8") else 1)
    assert len(cluster.wrap) == len(cluster.topology)
    assert cluster.chip.runtime_version
    cores = chips * (2 if cluster.chip.name in ("v2", "v3", "v4", "v5p") else 1)
    assert int(cluster.accelerator_type.rsplit("-")[-1]) == cores
    units = cluster.chip.peak_tflops * 1e12 / (cluster.chip.clock_mhz * 1e6 * 2 * 128**2)
    assert units == pytest.approx(round(units), rel=0.02)


def tiny_shards(root):
    import numpy as np

    from xlatrain.data.digits import _png, write_shards

    for split, count in (("train", 130), ("val", 5)):
        samples = ((f"{i:03d}", "png", _png(np.full((8, 8), float(i % 16))), i % 3) for i in range(count))
        write_shards(root / split, samples, ["a", "b", "c"], samples_per_shard=40)
    return root


def test_choices_have_their_own_options_and_defaults():
    config, _ = compose_config(["optimizer=rmsprop_tf", "optimizer.rho=0.95", "train.seed=3"])
    assert isinstance(config.optimizer, RMSpropTFConfig)
    assert (config.optimizer.rho, config.optimizer.eps, config.train.seed) == (0.95, 1e-3, 3)


@pytest.mark.slow
@pytest.mark.parametrize(
    "overrides",
    [
        ["data=imagenet", "data.root=/x", "model=efficientnet_b2", "+model.kwargs.act_layer=relu", "train={seed: 3}"],
        ["train.seed=7", "recipe=efficientnet_b2_32k", "++train.seed=8", "optimizer.lr=0.3", "data=synthetic"],
        ["cluster=tpu_v3_8", "cluster.chip.price_spot=0.5", "data=synthetic"],
        ["optimizer=lars", "optimizer={nesterov: true}", "augment.sizes=[{until: 1ep, size: 16}, {size: 32}]"],
        ["optimizer=sgd", "optimizer.trust_coefficient=1"],
        ["train.seed=x"],
        ["ema=sometimes"],
    ],
    ids=lambda overrides: overrides[0],
)
def test_what_overrides_come_to_is_what_hydra_makes_of_them(overrides):
    """Here values are set in a copy of what the groups come to; Hydra composes all anew."""

    def outcome(act):
        try:
            composed = act(overrides)
        except HydraException as error:
            return type(error), str(error)
        return OmegaConf.get_type(composed), OmegaConf.to_yaml(composed)

    expected = outcome(lambda overrides: compose._compose_all(overrides, hydra=False))
    assert outcome(compose._compose) == expected
    assert outcome(compose._compose) == expected  # the copy was one


def test_names_that_others_rely_on_are_there():
    promised = [
        "model.name",
        "model.drop_rate",
        "model.drop_path_rate",
        "model.sync_bn_group",
        "data.image_size",
        "train.global_batch",
        "train.duration",
        "train.seed",
        "train.log_every",
        "train.eval_every",
        "optimizer.lr",
        "cluster.replicas",
        "engine.replay",
        "run.name",
        "run.root",
        "weights",
    ]
    assert set(promised) <= set(option_keys())
    assert {"model", "data", "augment", "optimizer", "schedule", "precision", "ema", "cluster", "recipe"} <= set(
        groups()
    )


@pytest.mark.parametrize("value", ["$(touch x)", "it's `here`", 'the "best" one: {', "a=1", "x!", "a (b)"])
def test_what_a_cure_quotes_comes_through_a_shell_as_it_was_meant(value):
    with pytest.raises(ConfigError) as error:
        parse_override(f"run.name={value}")
    (word,) = shlex.split(error.value.faults[0].cure.removeprefix("quote the value: "))
    assert parse_override(word).value() == value
    quoted = error.value.faults[0].cure.partition(": ")[2]
    said = subprocess.run(["bash", "-c", f"printf %s {quoted}"], capture_output=True, text=True)
    assert said.stdout == word
