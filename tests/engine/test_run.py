"""Whole runs on real replicas, from overrides to files, what a user relies on: the same run however it is made, and
evaluations that are one number. In one file since a worker of the tests makes their runs once."""

import hashlib
import itertools
import json
import math
import re
from pathlib import Path

import pytest
import timm
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from sklearn.datasets import load_digits

from tests.engine.plain_pytorch import plain_losses
from tests.nets import SMALL
from tests.runs import EXACT, RANDOM, lines, losses, train
from tests.shards import damage_image
from xlatrain.data.digits import _png, write_digits
from xlatrain.data.shard_format import write_shards
from xlatrain.engine import run as runs
from xlatrain.errors import ReplicaError
from xlatrain.preflight.check import check_evaluation
from xlatrain.preflight.weights_file import read_facts


@pytest.mark.replicas
def test_weights_are_those_of_the_timm_model_alone(by_replicas, random_run):
    for summary, names in ((random_run, ["weights.safetensors", "weights_raw.safetensors"]),
                           (by_replicas[1], ["weights.safetensors"])):  # fmt: skip
        files = sorted(Path(summary["run"]).glob("*.safetensors"))
        assert [file.name for file in files] == names
        assert summary["sha256"] == {f.name: hashlib.sha256(f.read_bytes()).hexdigest() for f in files}
        for file in files:
            model = timm.create_model("test_efficientnet", num_classes=10, checkpoint_path=str(file))
            model.load_state_dict(load_file(file), strict=True)
            assert read_facts(file).timm["model_name"] == "test_efficientnet"
            assert timm.create_model(**read_facts(file).timm).state_dict().keys() == model.state_dict().keys()


@pytest.mark.replicas
def test_a_run_folder_holds_what_is_promised(random_run):
    folder = Path(random_run["run"])
    names = {p.name for p in folder.iterdir()}
    assert {"config.yaml", "metrics.jsonl", "summary.json", "train.log", "weights.safetensors"} <= names
    assert any(name.startswith("events.out.tfevents") for name in names)
    summary = json.loads((folder / "summary.json").read_text())
    promised = {
        "status",
        "top1",
        "top5",
        "loss",
        "eval_examples",
        "steps",
        "epochs",
        "replicas",
        "global_batch",
        "compiles",
        "images_per_second",
        "host_ms_per_step",
        "data_wait_fraction",
        "wall_seconds",
    }
    assert promised <= set(summary)
    assert (summary["status"], summary["steps"], summary["replicas"], summary["eval_examples"]) == ("done", 6, 4, 360)
    assert [row["step"] for row in lines(random_run, "train")] == list(range(1, 7))
    assert [row["step"] for row in lines(random_run, "eval")] == [3, 6]
    assert lines(random_run, "eval")[-1]["epoch"] == pytest.approx(6 * 64 / 1437, abs=1e-5)
    assert "precision:\n  name: bf16" in (folder / "config.yaml").read_text()
    assert summary["provenance"]["command"].startswith("xlatrain train engine.strict=true augment=shift_flip ")
    assert {"xlatrain", "python", "torch", "torch_xla", "timm"} == set(summary["provenance"]["versions"])
    assert not any(b"hunter2" in path.read_bytes() for path in folder.rglob("*") if path.is_file())
    assert "4 replicas hold equal weights" in (folder / "train.log").read_text()


@pytest.mark.one_replica
def test_progressive_resizing_compiles_all_sizes_before_the_first_step(root):
    """One graph for each size, none later; steps, epochs and learning rates follow the batch of each."""
    sizes = "augment.sizes=[{until: 1ep, size: 16, batch: 358, lr: 0.5}, {until: 2ep, size: 24}, {size: 32, lr: 2}]"
    exact = [option for option in EXACT if not option.startswith("model.drop")]
    summary = train(
        root, "progressive", *exact, SMALL, sizes, "train.global_batch=178", "train.duration=3ep",
        "train.eval_every=1ep",
        "cluster.replicas=1", "schedule=constant", "schedule.warmup=0step", "optimizer.lr=0.05", "data.workers=2",
    )  # fmt: skip
    assert summary["compiles"] == {"train": 3, "eval": 1}
    assert summary["steps"] == 4 + 8 + 8
    rows = lines(summary, "train")
    assert [row["lr"] for row in rows] == pytest.approx([0.025] * 4 + [0.05] * 8 + [0.1] * 8)
    images = [4 * 358, 4 * 358 + 8 * 178, 4 * 358 + 16 * 178]  # of 1,437 an epoch
    assert [row["epoch"] for row in rows][3::8] == pytest.approx([n / 1437 for n in images], abs=1e-5)
    assert [row["step"] for row in lines(summary, "eval")] == [5, 13, 20]
    log = (Path(summary["run"]) / "train.log").read_text()
    assert log.index("phase 3 of 3") < log.index("step 1/20") < log.index("phase 2: 24 px, batch 178")
    assert log.count("compiled the train step") == 3


@pytest.fixture
def digits_folder(tmp_path):
    write_digits(tmp_path / "digits", 0.2)
    return tmp_path / "digits"


@pytest.mark.one_replica
def test_a_corrupt_image_ends_a_run_or_is_skipped_and_counted(root, digits_folder):
    key = damage_image(digits_folder / "train/shard-000003.tar", 7)
    short = [SMALL, f"data.root={digits_folder}", "cluster.replicas=1", "train.duration=1ep"]
    with pytest.raises(ReplicaError) as error:
        train(root, "corrupt", *short)
    (line,) = error.value.report.splitlines()  # what to mend, and no traceback
    assert re.search(f"sample {key!r} of shard .*shard-000003.tar: cannot be decoded", line)
    assert json.loads((root / "corrupt/summary.json").read_text())["status"] == "failed"
    summary = train(root, "lenient", *short, "data.on_error=skip", "train.global_batch=478")
    assert summary["train_skipped_samples"] == 1
    assert summary["steps"] == 3


@pytest.mark.replicas
def test_gradients_that_stay_not_finite_are_skipped_then_end_the_run(root):
    with pytest.raises(ReplicaError, match=r"not finite in 5 steps in a row, \d+ to \d+"):
        train(
            root,
            "diverges",
            SMALL,
            "gradient.clip=agc",  # which must not turn what is not finite into something that is
            "optimizer.lr=1e30",
            "schedule.warmup=0step",
            "cluster.replicas=2",
            "ema=off",
            "train.max_skipped_steps=5",
            "train.duration=40step",
            "train.log_every=1step",
        )
    rows = [json.loads(row) for row in (root / "diverges/metrics.jsonl").read_text().splitlines()]
    assert rows[-1]["skipped_steps"] >= 4


@pytest.mark.one_replica
def test_logits_that_are_not_numbers_are_wrong_answers(root):
    """A run that went astray must not come out best of a sweep."""
    options = ["optimizer.lr=1e30", "schedule.warmup=0step", "cluster.replicas=1", "ema=off", "train.duration=4step"]
    summary = train(root, "astray", SMALL, *options)
    assert (summary["top1"], summary["top5"]) == (0.0, 0.0)
    assert summary["loss"] is None or math.isnan(summary["loss"])


@pytest.mark.replicas
def test_another_model_trains_on_synthetic_data_and_every_image_is_evaluated(root):
    """One of no batch norm and one size of image."""
    summary = train(
        root,
        "synthetic",
        "model.name=test_vit",
        "optimizer=lars",
        "data=synthetic",
        "data.image_size=160",
        "data.num_classes=10",
        "cluster.replicas=2",
        "data.train_examples=256",
        "data.val_examples=45",
        "train.duration=2step",
    )
    assert summary["eval_examples"] == 45
    assert math.isfinite(summary["loss"])
    assert summary["compiles"] == {"train": 1, "eval": 1}


@pytest.mark.replicas
def test_replicas_agree_with_each_other_and_with_plain_pytorch(by_replicas):
    """1e-4 relative over 5 losses and 5e-3 over 20: float32 sums in another order, which training amplifies. Plain
    PyTorch on two threads is within 1e-3 of replicas, on one thread, which sums otherwise, within 2.9e-3."""
    found = {"plain": plain_losses(EXACT), **{n: losses(s) for n, s in by_replicas.items()}}
    assert all(len(row) == 20 for row in found.values())
    for a, b in itertools.combinations(found.values(), 2):
        assert b[:5] == pytest.approx(a[:5], rel=1e-4)
        assert b == pytest.approx(a, rel=5e-3)


@pytest.mark.replicas
def test_replayed_equals_traced_with_everything_random_switched_on(root, random_run):
    """And the same seed, in another process, gives the same run."""
    traced = train(root, "random-traced", *RANDOM, "engine.replay=false")
    assert losses(traced) == losses(random_run)
    assert [r["loss"] for r in lines(traced, "eval")] == [r["loss"] for r in lines(random_run, "eval")]
    assert traced["sha256"] == random_run["sha256"]


@pytest.mark.replicas
def test_one_compile_a_step_and_nothing_on_the_cpu_behind_ones_back(by_replicas, random_run):
    for summary in (*by_replicas.values(), random_run):
        assert summary["compiles"] == {"train": 1, "eval": 1}
        assert summary["cpu_fallbacks"] == {}
    assert by_replicas[1]["other_compiles"] == 0
    assert by_replicas[8]["other_compiles"] == 1  # that replicas start equal
    assert random_run["other_compiles"] == 2  # and that groups' statistics are made equal


@pytest.mark.parametrize("replicas", [1, 3])
@pytest.mark.replicas
def test_evaluation_of_saved_weights_is_the_same_number_on_any_replicas(root, random_run, replicas):
    """Nothing but the file is named: it was trained in bf16, which is not the default."""
    overrides = [
        f"weights={random_run['run']}/weights.safetensors",
        f"cluster.replicas={replicas}",
        f"run.root={root}",
        f"run.name=eval-{replicas}",
    ]
    summary = runs.evaluate(check_evaluation(overrides))
    assert summary["eval_examples"] == 360
    assert summary["top1"] == random_run["top1"]
    assert summary["top5"] == random_run["top5"]
    assert summary["loss"] == pytest.approx(random_run["loss"], rel=1e-5)
    assert summary["replicas"] == replicas
    assert "from weights.safetensors: " in (log := (Path(summary["run"]) / "train.log").read_text())
    assert "precision.name=bf16 (else fp32)" in log
    assert summary["sha256"]["weights.safetensors"] == random_run["sha256"]["weights.safetensors"]


@pytest.mark.replicas
def test_bf16_evaluation_ranks_by_float32_logits(root, random_run, tmp_path):
    """A classifier that says 100 + k/64 for class k whatever the image. In bf16 all ten are 100, and ties count against
    the model; in float32 nines are right, and five digits in ten are in the top 5."""
    source = Path(random_run["run"]) / "weights.safetensors"
    tensors, metadata = load_file(source), safe_open(source, "pt").metadata()
    tensors["classifier.weight"] = torch.zeros_like(tensors["classifier.weight"])
    tensors["classifier.bias"] = 100 + torch.arange(10) / 64
    save_file(tensors, tmp_path / "near.safetensors", metadata)
    overrides = [f"weights={tmp_path}/near.safetensors", "cluster.replicas=1", "precision=bf16", f"run.root={root}"]
    summary = runs.evaluate(check_evaluation(overrides))
    assert summary["top1"] == pytest.approx(0.1, abs=0.01)
    assert summary["top5"] == pytest.approx(0.5, abs=0.01)
    expected = torch.logsumexp(torch.arange(10) / 64, 0).item() - 4.5 / 64
    assert summary["loss"] == pytest.approx(expected, abs=1e-3)


@pytest.mark.replicas
def test_five_images_on_eight_replicas_are_five_images(root, random_run, tmp_path):
    """Fewer images than replicas, also with worker processes: three replicas see padding alone."""
    samples = [(f"{i}", "png", _png(load_digits().images[i]), i) for i in range(5)]
    for split in ("train", "val"):
        write_shards(tmp_path / split, samples, [str(i) for i in range(10)])
    found = {}
    for replicas, workers in ((8, 2), (1, 0)):
        overrides = [
            "data=shards", f"data.root={tmp_path}", f"data.workers={workers}",
            f"weights={random_run['run']}/weights.safetensors", f"cluster.replicas={replicas}", "train.global_batch=8",
            f"run.root={root}", f"run.name=five-{replicas}",
        ]  # fmt: skip
        found[replicas] = runs.evaluate(check_evaluation(overrides))
    assert found[8]["eval_examples"] == found[1]["eval_examples"] == 5
    assert found[8]["top1"] == found[1]["top1"]
    assert found[8]["loss"] == pytest.approx(found[1]["loss"], rel=1e-5)
