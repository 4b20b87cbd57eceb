"""Every mistake is named with its cure, several at once."""

import pytest

from tests.faults import faults_of
from xlatrain.errors import ConfigError
from xlatrain.preflight.check import check, check_evaluation

JAX = ("engine.runtime=jax",)
LEGW = ("scaling.rule=legw", "scaling.base_lr=0.1")


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["train.globl_batch=64"], ["train.globl_batch", "did you mean train.global_batch"]),
        (["finetune.freeze=stem"], ["finetune.freeze=stem: is a list", "write finetune.freeze=[stem]"]),
        (["optimizer=larz"], ["optimizer", "'larz'", "did you mean optimizer=lars"]),
        (["model.name=efficientnet_bo"], ["model.name", "'efficientnet_bo'", "efficientnet_b"]),
        (["train.global_batch=100"], ["train.global_batch", "100", "8 replicas", "train.global_batch=96"]),
        (["train.global_batch=2000"], ["train.global_batch", "2000", "1437"]),
        (["model.sync_bn_group=3"], ["model.sync_bn_group", "groups of 3", "1, 2, 4, 8"]),
        (["model.sync_bn_group=all"], ["model.sync_bn_group", "'all'", "world, local"]),
        (["train.duration=20epochs"], ["train.duration", "'20epochs'", "20ep"]),
        (["train.duration=5%"], ["train.duration", "'5%'"]),
        (["train.duration=0.01ep"], ["train.duration", "less than one step"]),
        (["data.val_fraction=0"], ["data.val_fraction", "validation set empty"]),
        (["data=synthetic", "data.val_examples=0"], ["data.val_examples", "validation set empty"]),
        (["data=shards", "data.root=/no/such/folder"], ["data.root", "/no/such/folder", "index.json"]),
        (["data=shards"], ["data.root", "has no value"]),
        (["train.seed=x"], ["train.seed=x", "Integer"]),
        (["optimizer.lr=-1"], ["optimizer.lr", "-1", "0 or more"]),
        (["optimizer.lr=nan"], ["optimizer.lr", "nan"]),
        (["optimizer.trust_coefficient=1"], ["optimizer.trust_coefficient", "optimizer=lars has it"]),
        (["data.on_error=ignore"], ["data.on_error", "'ignore'", "raise, skip"]),
        (["+foo=1"], ["+foo=1", "cannot be added"]),
        (["+train.seed=1"], ["+train.seed=1", "cannot be added", "write train.seed=value"]),
        (["~train.seed"], ["~train.seed", "cannot be deleted"]),
        (["++train.globl_batch=64"], ["train.globl_batch", "no such option", "did you mean train.global_batch?"]),
        (["+model.kwargs={act_layer: relu}"], ["name each argument", "+model.kwargs.act_layer=relu"]),
        (["model.kwargs={act_layer: relu}"], ["name each argument", "+model.kwargs.act_layer=relu"]),
        (["~model.kwargs.foo"], ["no such argument to delete", "leave it out"]),
        (["optimizer@foo=lars"], ["write optimizer=..., without @foo"]),
        (["train.seed=${oc.env:NO_SUCH_NAME}"], ["train.seed=", "NO_SUCH_NAME"]),
        (["=3"], ["=3", "write key=value"]),
        (["train..seed=3"], ["train..seed=3", "write key=value"]),
        (["optimizer=glob(s*)"], ["optimizer=glob(s*)", "add -m"]),
        (["hydra/launcher=joblib"], ["hydra/launcher", "add -m"]),
        (["train.seed"], ["train.seed", "key=value"]),
        (["+model.kwargs.foo=1"], ["model", "'foo'"]),
        (["weights=x"], ["weights", "no file or folder x", "name a safetensors file"]),
        (["hydra.foo=1"], ["hydra.foo", "a single run"]),
        (["optimizer=sgd,lars"], ["optimizer=sgd,lars", "add -m"]),
        (["optimizer=null"], ["optimizer"]),
        (["--cfg"], ["--cfg", "no such flag"]),
        (["cluster.chip.price_spot=1"], ["cluster.chip.price_spot", "no cluster.chip"]),
        (["weights=runs/lr=1/w.safetensors"], ["quote the value"]),
        (["model.layout=channels_last", "model.depthwise=native"], ["model.layout", "as shifts"]),
        (["model.name=resnet18.nosuchtag"], ["model", "nosuchtag"]),
        (["run.name=.."], ["run.name", "'..'"]),
        (["train.seed=99999999999999999999"], ["train.seed", "out of range"]),
        (["train.eval_every=0step"], ["train.eval_every", "at least 1step"]),
        (["train.until=top1>=94"], ["train.until", "is 0.94 meant?"]),
        (["train.bce_threshold=0.2"], ["train.bce_threshold", "is for train.loss=binary_cross_entropy"]),
        (["augment.cutout=40"], ["augment.cutout", "40 pixels are more than the image's 32"]),
        (["schedule=constant", "schedule.length=40ep"], ["schedule.length", "has no length of its own"]),
        (["data.repeats=0"], ["data.repeats", "take 1 or more"]),
        (["data=own", "data._target_=tests.test_own_parts.WholeSplit", "data.repeats=2"], ["data.repeats", "itself"]),
        (["data.std=[0,0,0]"], ["data.std", "above 0"]),
        (["gradient.accumulate=3"], ["train.global_batch", "3 micro-batches", "train.global_batch=120"]),
        (["scaling.rule=legw"], ["scaling", "nothing to scale"]),
        (["schedule.warmup=100ep"], ["schedule.warmup", "1,122 steps", "224", "schedule.warmup=25%"]),
        (["schedule.warmup=5ep", "train.duration=2ep"], ["schedule.warmup", "56 steps", "22"]),
        (["schedule.warmup=101%"], ["schedule.warmup", "226 steps", "224"]),
        (["recipe=efficientnet_b2_32k", "data=synthetic", "train.duration=20ep"], ["schedule.warmup", "50ep"]),
        ([*LEGW, "scaling.base_batch=16"], ["scaling.base_warmup", "40ep", "legw from batch 16 to 128"]),
        ([*LEGW, "scaling.base_warmup=11ep", "scaling.base_batch=64"], ["scaling.base_warmup", "22ep"]),
        (
            ["scaling.rule=sqrt", "scaling.base_lr=0.1", "scaling.base_warmup=30ep"],
            ["scaling.base_warmup", "30ep", "sqrt"],
        ),
        (["schedule.default_warmup=5epochs"], ["schedule.default_warmup", "'5epochs'"]),
        (["schedule=piecewise", "schedule.points=[[x,1.0]]"], ["schedule.points[0]", "'x'"]),
        (["cluster.processes_per_host=2"], ["cluster.processes_per_host", "torch_xla", "engine.runtime=jax"]),
        (["cluster.hosts=2"], ["cluster.hosts", "torch_xla", "engine.runtime=jax"]),
        ([*JAX, "cluster.processes_per_host=3"], ["8 replicas", "3 processes", "cluster.replicas=9"]),
        ([*JAX, "cluster.hosts=2", "cluster.coordinator=a:1"], ["cluster.host", "2 machines", "0 to 1"]),
        ([*JAX, "cluster.hosts=2", "cluster.host=1"], ["cluster.coordinator", "cluster.coordinator=HOST:8476"]),
        ([*JAX, "cluster.host=1"], ["cluster.host", "cluster.hosts=2"]),
    ],
)
def test_a_mistake_is_one_clear_fault(overrides, words):
    faults = faults_of(check, overrides)
    assert len(faults) == 1, faults
    for word in words:
        assert word in str(faults[0])


@pytest.mark.slow
def test_faults_of_every_kind_are_reported_together():
    faults = faults_of(check, ["optimizer=larz", "train.globl_batch=1", "model.sync_bn_group=5", "train.duration=x"])
    assert [f.key for f in faults] == ["optimizer", "train.globl_batch", "model.sync_bn_group", "train.duration"]


def test_a_missing_value_does_not_hide_other_faults():
    faults = faults_of(check, ["data=shards", "train.global_batch=63"])
    assert [f.key for f in faults] == ["data.root", "train.global_batch"]


def test_evaluation_needs_weights_that_are_there():
    assert "no weights are named" in str(faults_of(check_evaluation, [])[0])
    assert "there is no file" in str(faults_of(check_evaluation, ["weights=/no/such/file"])[0])


def test_environment_that_would_change_the_numbers_is_refused(monkeypatch):
    monkeypatch.setenv("XLA_USE_BF16", "1")
    with pytest.raises(ConfigError, match="precision=bf16"):
        check([])


@pytest.mark.parametrize(
    "override",
    ["'+model.kwargs.act_layer=relu'", "++train.seed=3", 'optimizer="lars"', "train.seed=int(2.0)", "train={seed: 3}"],
)
def test_what_hydra_takes_for_one_run_is_taken(override):
    assert not faults_of(check, [override.strip("'")])


@pytest.mark.parametrize(
    ("overrides", "key"),
    [
        (["scaling.rule=cubic", "scaling.base_lr=1"], "scaling.rule"),
        (["scaling.rule=linear", "scaling.base_lr=1", "scaling.base_batch=0"], "scaling.base_batch"),
        (["optimizer.lr=inf"], "optimizer.lr"),
        (["optimizer=adamw", "optimizer.beta2=1"], "optimizer.beta2"),
        (["schedule=piecewise", "schedule.points=[[0ep,0.05],[1ep,-0.1]]"], "schedule.points[1]"),
        (["schedule=piecewise", "scaling.rule=linear", "scaling.lr_per_256=0.4"], "scaling"),
        (["schedule=onecycle", "schedule.warmup=1ep"], "schedule.warmup"),
        (["schedule.warmup_shape=constant"], "schedule.warmup_lr"),
        (["gradient.kahan=true"], "gradient"),
        (["gradient=bf16", "gradient.kahan=true"], "gradient.kahan"),
        (["model.zero_init_residual=true"], "model"),
        (["model.fold=true"], "model.fold"),
    ],
    ids=lambda v: v if isinstance(v, str) else None,
)
def test_options_that_mislead_or_cannot_be_are_refused_by_name(overrides, key):
    assert [f.key for f in faults_of(check, overrides)] == [key]


@pytest.mark.parametrize(
    ("sizes", "words"),
    [
        ("[{until: 1ep, size: 16}, {size: 0}]", ["augment.sizes[1].size", "out of range"]),
        ("[{size: 16}, {size: 32}]", ["augment.sizes[0].until", "no end of a size"]),
        ("[{until: 2.5ep, size: 16}, {size: 32}]", ["augment.sizes[0].until", "whole epochs"]),
        ("[{until: 3ep, size: 16}, {until: 2ep, size: 20}, {size: 32}]", ["augment.sizes[1].until", "more than the 3"]),
        ("[{until: 3ep, size: 16, batch: 100}, {size: 32}]", ["augment.sizes[0].batch", "does not divide"]),
        ("[{until: 3ep, size: 16, batch: 8000}, {size: 32}]", ["augment.sizes[0].batch", "1437 training images"]),
        ("[{until: 3ep, sise: 16}, {size: 32}]", ["augment.sizes[0]", "sise", "the keys are until, size"]),
        ("[{until: 3ep, size: 16}, {until: 5ep, size: 32}]", ["augment.sizes[1].until", "20ep"]),
        ("[16, 32]", ["augment.sizes[0]", "16 is no size"]),
        ("[{until: 3ep, size: 16}, {size: 32}] augment.jitter=[0.4]", ["augment.jitter", "three numbers"]),
        ("[] augment.magnitude=5", ["augment", "the policy is none"]),
        ("[] augment.min_area=0.5", ["augment.min_area", "augment.crop=tf"]),
        ("[] data.train='{a,b'", ["data.train", "close every brace"]),
        ("[] data.cache_gb=5", ["data.cache_gb", "no cache"]),
    ],
)
def test_sizes_that_cannot_be_are_named(sizes, words):
    with pytest.raises(ConfigError) as error:
        check(f"augment.sizes={sizes}".replace("] ", "]|").split("|"))
    for word in words:
        assert word in str(error.value)


@pytest.mark.parametrize(
    ("overrides", "key", "cure"),
    [
        ([], "cluster.replicas", "take cluster.replicas=6 or fewer, and a train.global_batch of at most 6"),
        (["train.global_batch=4"], "cluster.replicas", "take cluster.replicas=6 or fewer"),
        (["cluster.replicas=2", "gradient.accumulate=4"], "cluster.replicas", "take cluster.replicas=1 or fewer"),
        (["cluster.replicas=2", "gradient.accumulate=8"], "cluster.replicas", "gradient.accumulate=6 or less, and cl"),
        (["cluster.replicas=3"], "train.global_batch", "take train.global_batch=6"),
        (["cluster.replicas=4"], "train.global_batch", "take train.global_batch=4 or less"),
        (["cluster.replicas=4", "train.global_batch=7"], "train.global_batch", "take train.global_batch=4"),
    ],
)
def test_a_cure_for_a_small_data_set_is_one(overrides, key, cure):
    small = ["data=synthetic", "data.train_examples=6", "data.image_size=32"]
    (fault,) = faults_of(check, [*small, *overrides])
    assert fault.key == key
    assert cure in fault.cure
    assert "=0" not in fault.cure


@pytest.mark.parametrize(
    ("override", "cure"),
    [
        ("=3", "write key=value"),
        ("xyzzy.plugh=1", "`xlatrain train --help` lists them all"),
        ("cluster=qqq", "`xlatrain train --help` lists them all"),
        ("data.eval_ratio=nan", "give a finite one, or null"),
        ("gradient.clip=agcc", "did you mean gradient.clip=agc?"),
        ("data.on_error=never", "take one of these"),
        ("augment.jitter=[0.4,nan,0.4]", "give brightness"),
        ("data.mean=[0.5,inf,0.5]", "see conf/data"),
        ("optimizer=lamb optimizer.max_grad_norm=0", "take more than 0, or null"),
        ("augment.sizes=[{until: 1ep, size: 32, batch: -1}, {size: 32}]", "take 1 to 16,777,216"),
        ("augment.sizes=[{until: 1ep, size: 32, batch: 12}, {size: 32}]", "take a multiple of 8, as 16"),
        ("model.fold=true", "leave it out"),
    ],
)
def test_a_cure_can_be_followed(override, cure):
    (fault,) = faults_of(check, [override] if "{" in override else override.split())
    assert fault.cure.startswith(cure)
