"""Every choice in conf/ composes and checks; every mistake is named with its cure, several at once."""

import math

import huggingface_hub
import pytest
import safetensors.torch
import timm
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser

from tests.conftest import faults_of
from xlatrain.cli.sweep import check_sweep, search_points, sweep_jobs
from xlatrain.config.compose import compose_config, groups, option_keys, register_schemas
from xlatrain.config.schema import RMSpropTFConfig
from xlatrain.errors import ConfigError
from xlatrain.preflight.check import check, check_evaluation
from xlatrain.preflight.resolve import describe_short_warmup

register_schemas()

LEGW = ("scaling.rule=legw", "scaling.base_lr=0.1")
ON_SHARDS = ("shards", "imagenet", "cifar10")
CHOICES = [(group, name) for group, names in groups().items() for name in names]


@pytest.mark.parametrize(("group", "name"), CHOICES)
def test_every_choice_composes_and_passes_the_checks(group, name, tmp_path):
    overrides = [f"{group}={name}", *(["data.root=" + str(tiny_shards(tmp_path))] if name in ON_SHARDS else [])]
    if group == "recipe" and name != "none":
        overrides += ["data=synthetic"]  # a recipe leaves open where its data lie
    if group == "cluster":
        overrides += ["data=synthetic", "augment=none", "train.global_batch=98304"]  # a slice has up to 6,144 replicas
    assert check(overrides).lengths.total_steps > 0


@pytest.mark.parametrize("name", [n for n in groups()["cluster"] if n.startswith("tpu")])
def test_a_slice_is_one_whole(name):
    """Chips, replicas, hosts and name agree, and a chip's clock with its peak: whole matrix units of 128 x 128."""
    cluster = compose_config([f"cluster={name}"])[0].cluster
    chips = math.prod(cluster.topology)
    assert cluster.replicas == chips * cluster.chip.devices
    assert chips <= cluster.hosts * 4 * (2 if name.endswith("_8") else 1)
    assert len(cluster.wrap) == len(cluster.topology)
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


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["train.globl_batch=64"], ["train.globl_batch", "did you mean train.global_batch"]),
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
        (["weights=x"], ["weights", "leave it out"]),
        (["hydra.foo=1"], ["hydra.foo", "a single run"]),
        (["optimizer=sgd,lars"], ["optimizer=sgd,lars", "add -m"]),
        (["optimizer=null"], ["optimizer"]),
        (["--cfg"], ["--cfg", "no such flag"]),
        (["cluster.chip.price_spot=1"], ["cluster.chip.price_spot", "no cluster.chip"]),
        (["weights=runs/lr=1/w.safetensors"], ["quote the value"]),
        (["model.name=resnet18.nosuchtag"], ["model", "nosuchtag"]),
        (["run.name=.."], ["run.name", "'..'"]),
        (["train.seed=99999999999999999999"], ["train.seed", "out of range"]),
        (["train.eval_every=0step"], ["train.eval_every", "at least 1step"]),
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
    ],
)
def test_a_mistake_is_one_clear_fault(overrides, words):
    faults = faults_of(check, overrides)
    assert len(faults) == 1, faults
    for word in words:
        assert word in str(faults[0])


def test_faults_of_every_kind_are_reported_together():
    faults = faults_of(check, ["optimizer=larz", "train.globl_batch=1", "model.sync_bn_group=5", "train.duration=x"])
    assert [f.key for f in faults] == ["optimizer", "train.globl_batch", "model.sync_bn_group", "train.duration"]


def test_a_missing_value_does_not_hide_other_faults():
    faults = faults_of(check, ["data=shards", "train.global_batch=63"])
    assert [f.key for f in faults] == ["data.root", "train.global_batch"]


def test_evaluation_needs_weights_that_are_there():
    assert "nothing to evaluate" in str(faults_of(check_evaluation, [])[0])
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


def test_a_sweep_is_every_combination():
    jobs = sweep_jobs(["optimizer=sgd,lars", "train.seed=0,1", "ema=off"])
    assert jobs == [[f"optimizer={o}", f"train.seed={s}", "ema=off"] for o in ("sgd", "lars") for s in (0, 1)]


@pytest.mark.parametrize(
    ("override", "values"),
    [
        ("optimizer=glob(s*)", ["sgd"]),
        ("optimizer=glob([s*,la*],exclude=lamb)", ["lars", "sgd"]),
        ("train.seed=range(0,3)", ["0", "1", "2"]),
        ("optimizer.lr=range(0.25,1,0.25)", ["0.25", "0.5", "0.75"]),
        ("train.seed=choice(4,5)", ["4", "5"]),
        ("train.seed=sort(3,1,2)", ["1", "2", "3"]),
        ("train.seed=sort(range(0,3),reverse=true)", ["2", "1", "0"]),
        ("train.duration='3step','4step'", ["'3step'", "'4step'"]),
        ("+model.kwargs.act_layer=relu,silu", ["relu", "silu"]),
        ("run.name='a,b'", ["'a,b'"]),
    ],
)
def test_sweep_syntax_comes_to_what_hydra_makes_of_it(override, values):
    key = override.partition("=")[0]
    assert sweep_jobs([override]) == [[f"{key}={value}"] for value in values]
    if "glob" not in override:  # which Hydra expands by its search path
        theirs = BasicSweeper.split_arguments(OverridesParser.create().parse_overrides([override]), None)
        assert sweep_jobs([override]) == theirs[0]


def test_a_sweep_in_any_order_holds_the_same_jobs():
    assert sorted(sweep_jobs(["train.seed=shuffle(range(0,5))"])) == [[f"train.seed={n}"] for n in range(5)]


def test_an_option_given_twice_counts_once_as_in_hydra():
    assert sweep_jobs(["train.seed=0,1", "train.seed=2,3"]) == [["train.seed=2"], ["train.seed=3"]]


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("optimizer=glob(q*)", ["no choice has such a name", "the choices are adamw, lamb"]),
        ("train.seed=glob(*)", ["globs are for the groups: augment, cluster"]),
        ("optimizer.lr=interval(0.01,1)", ["interval", "hydra/sweeper=optuna"]),
        ("train.seed=range(3,3)", ["holds no value"]),
        ("train.seed=range(0,3,0)", ["list the values"]),
        ("hydra/launcher=joblib_", ["Hydra has no launcher 'joblib_' here", "take basic"]),
        ("hydra/sweeper=ax", ["Hydra has no sweeper 'ax' here", "pip install hydra-ax-sweeper"]),
        ("hydra.sweeper.foo=1", ["hydra.sweeper.foo=1", "foo"]),
        ("sweep.objective=top3", ["sweep.objective", "'top3'", "images_per_second"]),
    ],
)
def test_a_sweep_that_cannot_be_is_one_clear_fault(override, words):
    with pytest.raises(ConfigError) as error:
        check_sweep([override, "train.duration=1step"], check)
    assert len(error.value.faults) == 1
    for word in words:
        assert word in str(error.value)


def test_each_job_of_a_sweep_is_checked():
    with pytest.raises(ConfigError, match="train.seed: -1 is out of range"):
        check_sweep(["train.seed=0,-1"], check)


def test_the_points_of_a_search_hold_every_end_and_choice():
    space = ["optimizer.lr=tag(log,interval(0.01,1))", "train.seed=range(0,9)", "optimizer=sgd,lars,lamb", "ema=off"]
    assert search_points(space) == [
        ["optimizer.lr=0.01", "train.seed=0", "optimizer=sgd", "ema=off"],
        ["optimizer.lr=1.0", "train.seed=8", "optimizer=lamb", "ema=off"],
        ["optimizer.lr=0.01", "train.seed=0", "optimizer=lars", "ema=off"],
    ]


OPTUNA = "hydra/sweeper=optuna"


def test_a_search_is_refused_only_for_what_no_choice_cures():
    pytest.importorskip("hydra_plugins.hydra_optuna_sweeper")
    for space, words in (
        (["optimizer=sgd,larz,lars"], "did you mean optimizer=lars"),
        (["train.globl_batch=64", "optimizer.lr=interval(0,1)"], "train.globl_batch"),
        (["model.sync_bn_group=3", "optimizer.lr=interval(0,1)"], "groups of 3"),
        (["train.seed=choice(-2,-1)"], "train.seed: -2 is out of range"),
        (["optimizer.lr=interval(0,1)", "hydra.sweeper.direction=minimize"], "more is better of sweep.objective=top1"),
    ):
        with pytest.raises(ConfigError, match=words) as error:
            check_sweep([OPTUNA, *space], check)
        assert len(error.value.faults) == 1
    sweep = check_sweep([OPTUNA, "train.global_batch=choice(64,100)", "sweep.objective=loss"], check)
    assert not sweep.listed
    assert "hydra.sweeper.direction=minimize" in sweep.settings


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
        (["model=efficientnet_b0", "data.image_size=32", "model.tiles=3"], "model.tiles"),
        (["model.tiles=4"], "model.tiles"),
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
        ([*LEGW, "scaling.base_batch=64"], 112, None),
        (["schedule=onecycle", "train.duration=1ep"], 0, None),
    ],
)
def test_the_default_warm_up_gives_way_to_a_short_run_and_says_so(overrides, steps, words):
    plan = check(overrides)
    text = describe_short_warmup(plan.config, plan.lengths, plan.schedule)
    assert plan.schedule.warmup_steps == steps
    assert words in text if words else text is None


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
        ("model=efficientnet_b0 data.image_size=32 model.tiles=3", "take one of 1, 2, 4, 8"),
    ],
)
def test_a_cure_can_be_followed(override, cure):
    (fault,) = faults_of(check, [override] if "{" in override else override.split())
    assert fault.cure.startswith(cure)


@pytest.mark.parametrize(
    ("made", "words"),
    [
        (lambda path: write_weights(path, "test_resnet", 10), ["Missing key(s)", "conv_stem.weight", "10 classes"]),
        (lambda path: write_weights(path, "test_efficientnet", 7), ["size mismatch for classifier.weight", "[7, 256]"]),
        (lambda path: path.write_bytes(b"none of it"), ["Error while deserializing header"]),
        (lambda path: None, ["there is no file"]),
        (lambda path: path.mkdir(), ["there is no file"]),
    ],
    ids=["model", "classes", "bytes", "none", "folder"],
)
def test_initial_weights_that_do_not_fit_are_one_fault_with_its_cause(tmp_path, made, words):
    path = tmp_path / "w.safetensors"
    made(path)
    (fault,) = faults_of(check, [f"+model.kwargs.checkpoint_path={path}"])
    assert fault.key == "model.kwargs.checkpoint_path"
    for word in words:
        assert word in str(fault)


@pytest.mark.filterwarnings("error")
def test_initial_weights_that_fit_pass_without_a_word(tmp_path):
    write_weights(tmp_path / "w.safetensors", "test_efficientnet", 10)
    assert not faults_of(check, [f"+model.kwargs.checkpoint_path={tmp_path}/w.safetensors"])


def write_weights(path, name, classes):
    safetensors.torch.save_file(timm.create_model(name, num_classes=classes).state_dict(), path)


def test_pretrained_weights_that_cannot_be_reached_are_a_fault_at_once(monkeypatch, tmp_path):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "http://127.0.0.1:9")  # nobody listens there
    pretrained = ["+model.kwargs.pretrained=true"]
    (fault,) = faults_of(check, pretrained)
    assert fault.key == "model.kwargs.pretrained"
    assert "http://127.0.0.1:9/timm/test_efficientnet.r160_in1k, which cannot be reached: [Errno 111]" in fault.problem
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    assert "HF_HUB_OFFLINE is set" in str(faults_of(check, pretrained)[0])
    (fault,) = faults_of(check, [*pretrained, "model.name=resnet18.nosuchtag"])
    assert "Invalid pretrained tag (nosuchtag)" in str(fault)


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (
            ["model.name=densenet121", "data.image_size=8"],
            ["cannot take an image of 8 x 8", "Output size is too small"],
        ),
        (["+model.kwargs.in_chans=1"], ["cannot take an image of 32 x 32"]),
        (["+model.kwargs.features_only=true"], ["gives no 10 logits"]),
        (["data.image_size=10000000"], ["data.image_size", "1396983.9 GiB", "the memory of this machine"]),
        (["data.image_size=100000", "cluster=tpu_v3_8"], ["data.image_size", "a replica on v3 has 16 GiB", "33,842"]),
    ],
)
def test_images_that_a_model_or_a_memory_cannot_take_are_refused_with_the_reason(overrides, words):
    (fault,) = faults_of(check, overrides)
    for word in words:
        assert word in str(fault)
