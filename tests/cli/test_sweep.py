"""A sweep is every combination, a search the ends of its space; what cannot be is refused before anything starts."""

from functools import partial
from pathlib import Path

import pytest
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import MissingConfigException

from xlatrain.cli import sweeper
from xlatrain.cli.sweep import check_sweep, search_points, sweep_jobs
from xlatrain.config.choices import groups
from xlatrain.errors import ConfigError
from xlatrain.preflight.check import check


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


@pytest.mark.slow  # a configuration for each of 40 jobs
@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("none", 1), ("lr_ladder", 12), ("lars_grid", 12), ("batch_ladder", 5), ("full_batch", 16), ("legw_ladder", 6),
        ("search", 0),
    ],
)  # fmt: skip
def test_every_sweep_of_conf_can_be_started(name, count):
    if name == "search":
        pytest.importorskip("hydra_plugins.hydra_optuna_sweeper")
    data = ["data=synthetic"] * (name == "legw_ladder")
    sweep = check_sweep([f"sweep={name}", *data], partial(check, starts=False))
    assert sweep.listed == bool(count)
    assert len({job.overrides for job in sweep.jobs}) == len(sweep.jobs) >= count
    assert not count or len(sweep.jobs) == count


def test_every_sweep_of_conf_is_tried_and_documented():
    names = {"none", "lr_ladder", "lars_grid", "batch_ladder", "full_batch", "legw_ladder", "search"}
    assert set(groups()["sweep"]) == names
    told = Path(__file__).parents[2].joinpath("docs/sweeps.md").read_text()
    assert all(f"`sweep={name}`" in told for name in names - {"none"})


def test_what_a_command_says_itself_counts_for_more_than_a_sweep_of_conf():
    command = ["sweep=lars_grid", "optimizer.lr=2,4", "optimizer.weight_decay=0", "optimizer=lamb"]
    jobs = sweep_jobs(command)
    assert jobs == [["optimizer=lamb", f"optimizer.lr={lr}", "optimizer.weight_decay=0"] for lr in (2, 4)]


@pytest.mark.slow
def test_ladders_scale_each_optimizers_own_peak():
    jobs = sweep_jobs(["sweep=full_batch", "train.global_batch=1437"])
    found = {job.config.optimizer.name: job.config.optimizer.lr for job in map(check, jobs)}
    own = {name: check([f"optimizer={name}"]).config.optimizer.lr for name in found}
    assert found == {name: pytest.approx(rate * (1437 / 64) ** 0.5) for name, rate in own.items()}
    assert len(found) == 4


def test_the_batch_ladder_scales_peak_and_warm_up():
    ladder = [check(job) for job in sweep_jobs(["sweep=batch_ladder", "train.global_batch=64,256"])]
    small, large = (run.schedule for run in ladder)
    assert large.peak_lr / small.peak_lr == pytest.approx(2)
    epochs = [run.schedule.warmup_steps / run.lengths.steps_per_epoch(run.phases[0]) for run in ladder]
    assert epochs == [pytest.approx(0.5, rel=0.1), pytest.approx(2, rel=0.1)]


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
        ("sweep=lr_lader", ["there is no choice 'lr_lader'", "did you mean sweep=lr_ladder"]),
        ("sweep.objective=top3", ["sweep.objective", "'top3'", "images_per_second"]),
    ],
)
def test_a_sweep_that_cannot_be_is_one_clear_fault(override, words):
    with pytest.raises(ConfigError) as error:
        check_sweep([override, "train.duration=1step"], check)
    assert len(error.value.faults) == 1
    for word in words:
        assert word in str(error.value)


def test_a_sweep_of_conf_is_none_without_the_flag():
    with pytest.raises(ConfigError, match="sweep=lr_ladder: is a sweep, and this is a single run"):
        check(["sweep=lr_ladder"])


def test_a_sweep_of_conf_whose_sweeper_is_missing_says_what_installs_it(monkeypatch):
    error = MissingConfigException("", "hydra/sweeper/optuna", ["basic"])
    monkeypatch.setattr(sweeper, "compose_hydra", lambda command: (_ for _ in ()).throw(error))
    with pytest.raises(ConfigError, match="Hydra has no sweeper 'optuna' here\n.*pip install 'xlatrain\\[optuna\\]'"):
        check_sweep(["sweep=search"], check)


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


@pytest.mark.slow
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
    assert {"hydra.sweeper.direction=minimize", "hydra.sweeper.sampler.seed=0"} <= {*sweep.arguments}
