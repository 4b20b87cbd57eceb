"""What weights know of themselves is what an evaluation takes; what a command says against it is taken, and said."""

import json

import pytest
import timm
from safetensors.torch import save_file

from tests import faults
from xlatrain.config.compose import compose_config
from xlatrain.config.override import given_keys
from xlatrain.data.shard_format import write_shards
from xlatrain.engine.state import initial_state, model_layout
from xlatrain.engine.weights import WEIGHTS, save_weights
from xlatrain.models.create import build_model, timm_arguments
from xlatrain.preflight.check import check, check_evaluation, check_evaluation_config, look_over
from xlatrain.preflight.facts import Facts, describe_weights
from xlatrain.preflight.weights_file import read_facts

CLASSES = ["ant", "bee", "cat"]


def write_data(root, class_names):
    for split in ("train", "val"):
        write_shards(root / split, [("0", "png", b"", 0)], class_names)
    return f"data.root={root}"


@pytest.fixture
def data(tmp_path):
    return write_data(tmp_path / "data", CLASSES)


@pytest.fixture
def trained(tmp_path, data):
    """A function that gives the weights file of a run of no steps with these options."""

    def save(*overrides):
        small = ["data=shards", data, "train.global_batch=1", "cluster.replicas=1", "train.duration=1step"]
        plan = check([*small, "schedule.warmup=0step", *overrides])
        config, dataset = plan.config, plan.dataset
        model = build_model(config.model, dataset.num_classes, config.data.image_size, 0)
        arguments = timm_arguments(config.model, dataset.num_classes, config.data.image_size)
        facts = describe_weights(config, dataset.num_classes, dataset.class_names, arguments, {"timm": "1"})
        layout = model_layout(model)
        save_weights(tmp_path, initial_state(model, layout, {}, False, 0), layout, {}, facts)
        return f"weights={tmp_path / WEIGHTS}"

    return save


def evaluation(*overrides):
    return check_evaluation(overrides)


def faults_of(*overrides):
    return faults.faults_of(check_evaluation, overrides)


ODD = ["model.name=test_resnet", "data.image_size=64", "data.mean=[0.1,0.2,0.3]", "data.eval_ratio=0.875",
       "data.interpolation=bilinear", "precision=bf16", "model.bn_eps=0.01",
       "+model.kwargs.act_layer=gelu"]  # fmt: skip


@pytest.mark.slow
def test_an_evaluation_needs_no_more_than_weights_and_data(trained, data):
    """Trained at 64 px, the data set's default is 160: it must not be taken in silence."""
    plan = evaluation(trained(*ODD), "data=shards", data)
    config = plan.config
    assert (config.model.name, config.model.bn_eps, config.model.kwargs) == ("test_resnet", 0.01, {"act_layer": "gelu"})
    assert (config.data.image_size, config.data.mean, config.data.eval_ratio) == (64, [0.1, 0.2, 0.3], 0.875)
    assert (config.data.interpolation, config.precision.name, config.data.num_classes) == ("bilinear", "bf16", 3)
    assert len(plan.notes) == 1
    for words in (WEIGHTS, "data.image_size=64 (else 160)", "model.name=test_resnet (else test_efficientnet)"):
        assert words in plan.notes[0]


def test_a_sound_evaluation_is_looked_over_in_silence(trained, data):
    """What the command line does before torch is there."""
    look_over([trained(), "data=shards", data], check_evaluation_config)


def test_what_a_command_says_against_the_weights_is_taken_and_said(trained, data):
    weights = trained(*ODD)
    plan = evaluation(
        weights, "data=shards", data, "data={image_size: 96}", "precision=fp32", "+model.kwargs.act_layer=relu",
        "+model.kwargs.drop_rate=0.1",
    )  # fmt: skip
    assert (plan.config.data.image_size, plan.config.precision.name) == (96, "fp32")
    assert plan.config.model.kwargs == {"act_layer": "relu", "drop_rate": 0.1}
    said = plan.notes[1]
    for words in ("data.image_size=96 (there 64)", "precision.name=fp32 (there bf16)", "drop_rate=0.1 (there none)"):
        assert words in said
    assert evaluation(weights, "data=shards", data, "data.image_size=64").notes[1:] == ()


def test_a_choice_of_a_group_names_that_choice_and_no_more():
    given = given_keys(
        ["data=imagenet", "model={name: x, kwargs: {a: 1}}", "+model.kwargs.b=1", "data.mean=[1,1,1]", "?"]
    )
    assert {"data.name", "model.name", "model.kwargs.a", "model.kwargs.b", "data.mean"} <= given
    assert not {"data.image_size", "data.std", "model.kwargs", "?"} & given


@pytest.mark.slow
def test_other_weights_than_the_command_names_are_refused(trained, data):
    weights = trained("model.name=test_resnet")
    for named in ("model=efficientnet_b0", "model.name=test_vit"):
        faults = faults_of(weights, "data=shards", data, named)
        assert [f.key for f in faults] == ["model.name"]
        assert f"{WEIGHTS} holds test_resnet" in faults[0].problem
    assert evaluation(weights, "data=shards", data, "model.name=test_resnet.r160_in1k").notes[-1].count("there") == 1


@pytest.mark.slow
def test_labels_must_mean_what_they_meant(trained, tmp_path):
    """Same names with other numbers count right answers as wrong; other names may be the same classes."""
    weights = trained()
    for number, (names, words) in enumerate(
        [
            (["bee", "cat"], "class 0 is 'bee' in shards and 'ant' in weights.safetensors"),
            ([*CLASSES, "dog"], "has 4 classes"),
        ]
    ):
        faults = faults_of(weights, "data=shards", write_data(tmp_path / str(number), names))
        assert len(faults) == 1
        assert words in faults[0].problem
        assert "set data.num_classes" not in faults[0].cure
    other = evaluation(weights, "data=shards", write_data(tmp_path / "other", ["n01", "n02", "n03"]))
    assert "class 0 is 'n01' in shards and 'ant' in weights.safetensors, from shards" in other.notes[-1]
    few = evaluation(weights, "data=shards", write_data(tmp_path / "few", CLASSES[:2]))
    assert few.dataset.num_classes == 3
    assert not any("class 0" in note for note in few.notes)


def test_weights_that_say_nothing_are_evaluated_as_the_command_says_and_that_is_said(tmp_path, data):
    save_file(timm.create_model("test_efficientnet", num_classes=3).state_dict(), tmp_path / WEIGHTS)
    plan = evaluation(f"weights={tmp_path / WEIGHTS}", "data=shards", data, "data.image_size=96")
    assert plan.config.data.image_size == 96
    assert "says nothing of itself" in plan.notes[0]


def test_initial_weights_are_not_fetched_again(trained, tmp_path, data):
    """A run that began with other weights holds its own now."""
    weights = trained()
    facts = read_facts(tmp_path / WEIGHTS)
    start = tmp_path / WEIGHTS
    config, _ = compose_config([f"+model.kwargs.checkpoint_path='{start}'", "+model.kwargs.pretrained=false"])
    found = describe_weights(config, 3, CLASSES, timm_arguments(config.model, 3, 32), {})
    assert not any("checkpoint_path" in text or "pretrained" in text for text in (*found.options, *found.timm))
    assert weights.endswith(WEIGHTS)
    assert facts.class_names == tuple(CLASSES)


@pytest.mark.parametrize(
    "spoilt", [{"options": []}, {"class_names": "ab"}, {"class_names": [1]}, {"timm": 3}, {"data": None}, {"more": 1}]
)
def test_what_no_run_wrote_is_no_facts(spoilt):
    sound = Facts(False, None, {"model.name": "resnet18"}, ("a",), "digits", {})
    assert Facts.from_json(sound.to_json()) == sound
    with pytest.raises(ValueError, match="is not what a run writes"):
        Facts.from_json(json.dumps(json.loads(sound.to_json()) | spoilt))
