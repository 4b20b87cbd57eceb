"""A command composes and checks once, and what runs takes what was checked; what was left open is decided there."""

import pytest
import timm
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from safetensors.torch import save_file

from xlatrain.cli import data_bench, main, plan
from xlatrain.cli.verbs import joined
from xlatrain.config import compose
from xlatrain.errors import ConfigError, ReplicaError
from xlatrain.preflight import check as checks
from xlatrain.preflight import ensemble
from xlatrain.preflight.check import check

SUMMARY = {"status": "done", "top1": 0.5, "top5": 1.0, "loss": 1.0, "images_per_second": 1.0}


@pytest.fixture
def counted(monkeypatch):
    """How often Hydra composed a configuration, ours or its own, and how often data set and model were looked at."""
    compose._compose_groups.cache_clear()
    counts = {"composed": 0, "opened": 0, "built": 0}

    def count(owner, name, key):
        original = getattr(owner, name)

        def wrapper(*arguments, **named):
            counts[key] += 1
            return original(*arguments, **named)

        monkeypatch.setattr(owner, name, wrapper)

    count(ConfigLoaderImpl, "load_configuration", "composed")
    count(ensemble, "open_dataset", "opened")
    count(checks, "build_blank", "built")
    monkeypatch.setattr("xlatrain.xla.launch.launch", lambda *arguments, **named: dict(SUMMARY))
    return counts


def once(jobs=1, composed=1):
    return {"composed": composed, "opened": jobs, "built": jobs}


def test_a_training_run_is_composed_and_checked_once(counted, tmp_path):
    assert main.main(["train", f"run.root={tmp_path}"]) == 0
    assert counted == once()


def test_an_evaluation_is_composed_and_checked_once(counted, tmp_path):
    weights = timm.create_model("test_efficientnet", num_classes=10).state_dict()
    save_file(weights, tmp_path / "weights.safetensors")
    assert main.main(["eval", f"weights={tmp_path}/weights.safetensors", f"run.root={tmp_path}"]) == 0
    assert counted == once()


def test_a_drawn_schedule_is_composed_and_checked_once(counted, tmp_path):
    assert main.main(["show", "schedule", f"out={tmp_path}/s.png"]) == 0
    assert counted == once()


@pytest.mark.slow
def test_each_job_of_a_sweep_is_checked_once_and_each_of_its_choices_composed_once(counted, tmp_path):
    sweep = ["optimizer=sgd,lars,lamb", "train.seed=0,1,2,3", f"run.root={tmp_path}", "run.name=s"]
    assert main.main(["train", "-m", *sweep]) == 0
    assert counted == once(12, composed=3)
    assert len(list(tmp_path.glob("s/*/summary.json"))) == 12


def test_a_plan_is_composed_and_checked_once(counted, tmp_path, monkeypatch):
    def stop(run, say):
        raise ReplicaError("as far as this test goes")

    monkeypatch.setattr(plan, "make_plan", stop)
    assert main.main(["plan", "model=test_efficientnet", "train.global_batch=64", f"run.root={tmp_path}"]) == 1
    assert counted == once()


def test_an_input_benchmark_is_composed_and_checked_once(counted, monkeypatch):
    def stop(run, seconds, needed, say):
        raise ReplicaError("as far as this test goes")

    monkeypatch.setattr(data_bench, "measure", stop)
    assert main.main(["data", "bench"]) == 1
    assert counted == once()


@pytest.mark.parametrize(("asked", "replicas", "batch"), [(2**40, 8, 360), (2**40, 7, 364), (100, 8, 104)])
def test_a_batch_of_evaluation_is_no_larger_than_its_images(asked, replicas, batch):
    given = [f"eval.global_batch={asked}", f"cluster.replicas={replicas}", f"train.global_batch={8 * replicas}"]
    assert check(given).evaluation.batch == batch


@pytest.mark.slow
def test_what_was_left_open_is_decided():
    cpu = check([]).config
    assert (cpu.data.workers, cpu.model.depthwise, cpu.model.fold, cpu.engine.in_flight) == (0, "shift", False, 1)
    assert cpu.model.layout == "channels_last"
    wide = ["model=efficientnet_b2", "data=synthetic", "augment=none", "cluster=tpu_v3_8", "train.global_batch=256"]
    tpu = check(wide)
    assert tpu.config.model.layout == "channels_first"
    assert (tpu.config.model.depthwise, tpu.config.model.fold, tpu.config.engine.in_flight) == ("dense", True, 2)
    assert tpu.phases[0].fold is tpu.evaluation.fold is True
    asked = check([*wide, "model.depthwise=native", "model.fold=false", "engine.in_flight=3"]).config
    assert (asked.model.depthwise, asked.model.fold, asked.engine.in_flight) == ("native", False, 3)
    # Streams: the same for whatever reads with up to two workers; of more readers, each has its own.
    several = ["engine.runtime=jax", "cluster.processes_per_host=4"]
    readers = ([], ["data.workers=2"], [*several, "data.workers=2"], [*several, "data.workers=3"])
    assert [check(given).config.data.streams for given in readers] == [8, 8, 8, 12]
    assert check([*several, "data.workers=3", "data.streams=5"]).config.data.streams == 5


@pytest.mark.parametrize(
    ("more", "keys"),
    [
        ([], ["train.globl_batch"]),
        (["model.sync_bn_group=3"], ["train.globl_batch", "model.sync_bn_group"]),
        (["model.name=resnet5"], ["train.globl_batch", "model.name"]),
        (["+model.kwargs.nothing=1"], ["train.globl_batch", "model"]),
    ],
)
def test_a_wrong_option_is_told_without_a_model_unless_that_may_be_wrong_too(counted, more, keys):
    with pytest.raises(ConfigError) as error:
        check(["train.globl_batch=64", *more])
    assert [fault.key for fault in error.value.faults] == keys
    assert counted["built"] == (1 if keys[1:] and keys[1] != "model.sync_bn_group" else 0)


@pytest.mark.parametrize("given", [[], ["optimizer=lars", "train.until=top1>=0.9"], ["recipe=efficientnet_b2_32k"]])
def test_a_sound_command_is_looked_over_in_silence_and_without_a_model(counted, given):
    """What the command line does before torch is there. One that says nothing of a model ended in a traceback."""
    checks.look_over(joined(given if "recipe" not in str(given) else [*given, "data=synthetic"]), checks.check_config)
    assert counted["built"] == 0
