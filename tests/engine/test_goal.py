"""A run ends at the first evaluation that says what train.until asks for, and tells what it took."""

import json
from pathlib import Path

import pytest

from tests.nets import SMALL
from tests.runs import lines, train
from xlatrain.config.compose import compose_config
from xlatrain.engine.goal import Goal
from xlatrain.preflight.check import check

# With what other tests of runs leave out: binary cross entropy, views of images, squares cut out, and an evaluation of
# larger images than all of training.
OPTIONS = [SMALL, "cluster.replicas=2", "train.global_batch=120", "train.duration=60step", "train.eval_every=3step",
           "train.log_every=1step", "eval.global_batch=180", "ema=off", "train.until='loss<100'", "data.repeats=3",
           "train.loss=binary_cross_entropy", "augment.cutout=4", "augment.sizes=[{size: 24}]"]  # fmt: skip


@pytest.fixture(scope="module")
def reached(tmp_path_factory):
    return train(tmp_path_factory.mktemp("runs"), "goal", *OPTIONS)


@pytest.mark.replicas
def test_a_run_ends_where_its_goal_is_met(reached):
    found, folder = reached["reached"], Path(reached["run"])
    assert (reached["status"], reached["steps"], reached["until"]) == ("done", 3, "loss<100")
    assert (found["step"], found["images"], found["loss"]) == (3, 360, reached["loss"])
    assert found["epoch"] == pytest.approx(360 / 1437)
    assert 0 < found["seconds"] <= reached["wall_seconds"]
    assert found["hours"] == pytest.approx(found["seconds"] / 3600, abs=1e-6)
    assert (found["usd"], found["usd_spot"]) == (None, None)  # this machine has no price
    assert [row["event"] for row in lines(reached, "event")] == ["reached", "checkpoint", "done"]
    assert (folder / "weights.safetensors").exists()
    first = lines(reached, "train")[0]["loss"]
    assert first == pytest.approx(0.69, abs=0.2)  # of a yes or no that nothing is known of


@pytest.mark.replicas
def test_a_run_that_was_ended_just_before_its_end_ends_without_a_step(reached):
    """It had evaluated, and saved that."""
    folder = Path(reached["run"])
    (folder / "summary.json").unlink()
    again = train(folder.parent, "goal", *OPTIONS)
    assert (again["resumed_from_step"], again["steps"], again["reached"]["step"]) == (3, 3, 3)
    assert again["sha256"] == reached["sha256"]
    assert again["compiles"]["train"] == 0
    assert json.loads((folder / "summary.json").read_text())["reached"]["images"] == 360


def test_money_is_by_the_prices_of_the_cluster():
    run = check(["cluster=tpu_v3_8", "train.until=top1>=0.5"], starts=False)
    goal = Goal(run)
    assert not goal.look({"top1": 0.4}, 5, 0.1, 640, {"device": 10.0})
    assert goal.figures() == {"until": "top1>=0.5", "reached": None}
    assert goal.look({"top1": 0.5}, 10, 0.2, 1280, {"starting": 1800.0, "device": 1800.0})
    chip = compose_config(["cluster=tpu_v3_8"])[0].cluster.chip
    assert goal.reached["usd"] == pytest.approx(4 * chip.price_on_demand)  # an hour of four chips
    assert goal.reached["usd_spot"] == pytest.approx(4 * chip.price_spot)
    assert Goal(check(["cluster=tpu_v3_8"], starts=False)).figures() == {}
