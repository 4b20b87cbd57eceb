"""Parts of one's own by `_target_`, and choices of one's own by --config-dir: examples/, and what can be wrong."""

import random
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import Dataset, Subset

from tests.faults import faults_of
from tests.layouts import assert_same, read, read_here
from xlatrain.cli.main import main
from xlatrain.cli.sweep import check_sweep
from xlatrain.config.data import AugmentConfig, OwnDataConfig
from xlatrain.config.schema import OptimizerConfig
from xlatrain.data.numbered import NumberedSplit, as_pixels
from xlatrain.data.order import Leg, Position
from xlatrain.data.phase import Phase, Place
from xlatrain.errors import DataError
from xlatrain.preflight.check import check
from xlatrain.preflight.own_optimizer import optimizer_faults

ROOT = Path(__file__).parent.parent
CONF = f"--config-dir={ROOT}/examples/conf"
STRIPES = "data._target_=examples.stripes.Stripes"


class Numbered(Dataset):
    """Sample i is an image whose pixels are i, in the class i % 3, sorted: the worst order for a mixture."""

    num_classes = 3

    def __init__(self, split="train", samples=1000, fail_at=-1, kind="array"):
        self.samples, self.fail_at, self.kind = samples, fail_at, kind

    def __len__(self):
        return self.samples

    def __getitem__(self, i):
        if i == self.fail_at:
            raise KeyError("the file is gone")
        pixels = np.zeros((4, 4, 3), np.uint8)
        pixels[..., 0], pixels[..., 1] = i // 256, i % 256
        image = {"array": pixels, "pil": Image.fromarray(pixels), "float": torch.zeros(3, 4, 4)}[self.kind]
        return image, i * 3 // self.samples


class WholeSplit:
    """A split by itself, of the documented protocol."""

    num_classes = 2

    def __init__(self, split, samples=64):
        self.samples = samples

    def train_batches(self, place, seed, phases, start):
        yield from ()

    def eval_batches(self, place, batch):
        yield from ()


class NoLength:
    classes = ("a",)

    def __init__(self, split):
        pass


def split_of(dataset, workers=0):
    config = OwnDataConfig(image_size=4, eval_padding=0, workers=workers, _target_="Numbered")
    return NumberedSplit(dataset, config, AugmentConfig(), 3)


def numbers(batch):
    """The samples that a batch shows."""
    pixels = batch["images"][:, 0, 0].long()
    return (pixels[:, 0] * 256 + pixels[:, 1]).tolist()


@pytest.mark.parametrize(("processes", "workers"), [(1, 0), (3, 0), pytest.param(2, 2, marks=pytest.mark.slow)])
def test_every_sample_of_a_dataset_is_read_once_an_epoch_in_another_order_each(processes, workers):
    batch, steps = 12, 1000 // 12 // processes
    phase = (Phase(0, batch * processes, 4),)
    split, epochs = split_of(Numbered(), workers), []
    readers = [split.train_batches(Place(p, processes), 7, phase, Position()) for p in range(processes)]
    for _ in range(2):
        rows = [numbers(next(reader)) for _ in range(steps) for reader in readers]
        assert {len(row) for row in rows} == {batch}
        epochs.append([n for row in rows for n in row])
    for reader in readers:
        reader.close()
    for seen in epochs:
        assert max(Counter(seen).values()) == 1
        assert len(seen) == steps * batch * processes
    assert epochs[0] != epochs[1]
    # Batches hold a mixture of a data set that is sorted: of 36 images of 3 classes one class has 12 on average.
    largest = [max(Counter(n * 3 // 1000 for n in epochs[0][i : i + 36]).values()) for i in range(0, 960, 36)]
    assert np.mean(largest) < 18


@pytest.mark.slow
def test_batches_are_the_same_whoever_reads_a_dataset_which_may_draw():
    """Over an epoch's end, and a change of batch in the second epoch."""
    phases = (Phase(0, 16, 4), Phase(5, 12, 4))
    whole = read_here(split_of(Drawn(samples=70)), phases, 1, 12, Position())
    for processes, workers in [(1, 3), (2, 2), (3, 0), (8, 8)]:
        assert_same(read_here(split_of(Drawn(samples=70), workers), phases, processes, 12, Position()), whole)
    assert_same(read(split_of(Drawn(samples=70), 2), phases, 2, 12, Position()), whole)
    start = Position(1, step=4).under(Leg(8, 16)).advance(1).under(Leg(8, 12)).advance(2)
    assert_same(read_here(split_of(Drawn(samples=70), 2), phases, 3, 5, start), whole[7:])


@pytest.mark.slow
def test_reading_goes_on_from_a_position_as_if_it_had_never_stopped():
    split, phases, place = split_of(Numbered()), (Phase(0, 16, 4),), Place(0, 1)
    whole = split.train_batches(place, 3, phases, Position())
    rows = [numbers(next(whole)) for _ in range(150)]
    stopped = split.train_batches(place, 3, phases, Position(epoch=1, legs=(), step=62))
    assert [numbers(next(stopped)) for _ in range(40)] == rows[62:102]


class Drawn(Numbered):
    """Its images are random, as those of random transforms are."""

    def __getitem__(self, i):
        image, label = super().__getitem__(i)
        image[..., 2] = random.randrange(64) + np.random.randint(64) + int(torch.randint(64, ()))
        return image, label


@pytest.mark.slow
def test_what_a_dataset_draws_follows_from_seed_and_sample_whoever_reads_it():
    def drawn(seed, workers, epochs=1):
        reader = split_of(Drawn(samples=48), workers).train_batches(Place(0, 1), seed, (Phase(0, 16, 4),), Position())
        rows = [next(reader) for _ in range(3 * epochs)][-3:]
        return {n: int(v) for b in rows for n, v in zip(numbers(b), b["images"][:, 0, 0, 2], strict=True)}

    assert drawn(1, 0) == drawn(1, 2)
    assert drawn(1, 0) != drawn(2, 0)
    assert drawn(1, 0) != drawn(1, 0, epochs=2)
    assert len(set(drawn(1, 0).values())) > 20


def test_evaluation_sees_every_sample_once():
    batches = list(split_of(Numbered(samples=101)).eval_batches(Place(0, 1), 16))
    seen = [n for b in batches for n, m in zip(numbers(b), b["mask"].tolist(), strict=True) if m]
    assert sorted(seen) == list(range(101))


def test_a_sample_that_cannot_be_read_is_named():
    reader = split_of(Numbered(fail_at=5)).eval_batches(Place(0, 1), 16)
    with pytest.raises(DataError, match=r"sample '5' of shard own.*KeyError.*the file is gone"):
        next(reader)


def test_images_are_what_people_have():
    rgb = np.random.default_rng(0).integers(0, 256, (5, 7, 3), np.uint8)
    for image in (rgb, torch.from_numpy(rgb).permute(2, 0, 1), Image.fromarray(rgb)):
        assert np.array_equal(as_pixels(image), rgb)
    gray = np.repeat(rgb[..., :1], 3, axis=2)
    for image in (rgb[..., 0], rgb[..., :1], torch.from_numpy(rgb[..., 0]), torch.from_numpy(rgb[None, ..., 0])):
        assert np.array_equal(as_pixels(image), gray)
        assert as_pixels(image).flags.writeable
    for image in (rgb / 255, torch.zeros(3, 4, 4), np.zeros((4, 4, 2), np.uint8), np.zeros((0, 3, 3), np.uint8), "x"):
        with pytest.raises(TypeError, match="leave out ToTensor and Normalize"):
            as_pixels(image)


def test_a_dataset_says_its_classes_itself_or_through_what_it_is_a_part_of():
    run = check([STRIPES])
    assert run.dataset.class_names == ("horizontal", "vertical", "falling", "rising")
    assert (run.config.data.name, run.dataset.train.samples) == ("Stripes", 1024)
    assert not hasattr(run.config.data, "root")  # of the digits it takes the place of
    assert check(["data._target_=tests.test_own_parts.half"]).dataset.num_classes == 3
    assert check(["data._target_=tests.test_own_parts.WholeSplit", "train.global_batch=8"]).dataset.num_classes == 2


def half(split):
    return Subset(Numbered(), range(0, 1000, 2))


@pytest.mark.parametrize(
    ("overrides", "key", "words"),
    [
        (["model._target_=no.such.Net"], "model._target_", "No module named 'no'"),
        (["model._target_=examples.small_net.Net"], "model._target_", "has no attribute 'Net'"),
        (["model._target_=math.pi"], "model._target_", "float, no class or function"),
        (["model._target_=builtins.dict"], "model._target_", "gives a dict, no nn.Module"),
        (["model._target_=torch.nn.Identity"], "model._target_", "no 10 logits"),
        (["model._target_=examples.small_net.SmallNet", "+model.kwargs.w=3"], "model._target_", "'w'"),
        (["model._target_=examples.small_net.SmallNet", "model.drop_rate=0.1"], "model", "+model.kwargs.NAME=value"),
        (["optimizer._target_=torch.optim.Adam"], "optimizer._target_", "none of torch.optim's"),
        (["optimizer._target_=examples.lion.Lion", "optimizer.nesterov=false"], "optimizer.nesterov", "does not count"),
        (["+optimizer.kwargs.beta2=0.9"], "optimizer.kwargs", "are for optimizer._target_"),
        (["optimizer.kwargs.beta2=0.9"], "optimizer.kwargs.beta2=0.9", "write +optimizer.kwargs.beta2=0.9"),
        (["data=own"], "data._target_", "has no value"),
        ([STRIPES, "data.root=x"], "data.root", "does not count beside data._target_"),
        ([STRIPES, "data.num_classes=2"], "data.num_classes", "has 4 classes"),
        ([STRIPES, "+data.kwargs.samples=0"], "data._target_", "gives no samples"),
        (["data._target_=torchvision.datasets.CIFAR10"], "data._target_", "'split'"),
        (["data._target_=tests.test_own_parts.NoLength"], "data._target_", "a NoLength has no length"),
        (["data._target_=tests.test_own_parts.Numbered", "+data.kwargs.kind=float"], "data._target_", "ToTensor"),
        (["data._target_=tests.test_own_parts.Numbered", "+data.kwargs.fail_at=0"], "data._target_", "file is gone"),
        (["data._target_=tests.test_own_parts.lambdas"], "data._target_", "cannot go there"),
        (["+model.width=24"], "+model.width=24", "arguments of model._target_ go as +model.kwargs.NAME=value"),
        (["--config-dir=nowhere"], "--config-dir", "no folder nowhere"),
        ([CONF, "recipe=stripe"], "recipe", "did you mean recipe=stripes"),
        (["recipe=stripes"], "recipe", "there is no choice 'stripes'"),
    ],
)
def test_what_is_wrong_with_a_part_is_one_fault(overrides, key, words):
    (fault,) = faults_of(check, overrides)
    assert fault.key == key
    assert words in str(fault)


def lambdas(split):
    dataset = Numbered()
    dataset.transform = lambda image: image
    return dataset


class Broken:
    """An optimizer that breaks a rule."""

    def __init__(self, config, how):
        self.how, self.slots = how, {"average": 0.0}

    def update(self, params, grads, slots, hyper, segments):
        if self.how == "in place":
            return params.sub_(hyper.lr * grads), slots
        new = {"average": slots["average"] + grads}
        return {
            "one result": params,
            "no slots": (params, {}),
            "shape": (params[:-1], new),
            "dtype": (params.double(), new),
            "sound": (params - hyper.lr * grads, new),
        }[self.how]


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ("in place", "changes params in place"),
        ("one result", "returns no (parameters, slots)"),
        ("no slots", "returns the slots [], of ['average']"),
        ("shape", "returns other params than float32"),
        ("dtype", "returns other params than float32"),
    ],
)
def test_an_optimizer_that_is_no_pure_update_is_refused(how, words):
    config = OptimizerConfig(name="Broken", _target_="tests.test_own_parts.Broken", kwargs={"how": how})
    (fault,) = optimizer_faults(config)
    assert words in str(fault)


def test_a_pure_update_is_taken():
    config = OptimizerConfig(name="Broken", _target_="tests.test_own_parts.Broken", kwargs={"how": "sound"})
    assert optimizer_faults(config) == []


@pytest.mark.slow
def test_choices_of_ones_own_compose_like_those_of_conf(tmp_path):
    run = check([CONF, "recipe=stripes"])
    assert (run.config.model.name, run.config.data.name, run.config.optimizer.name) == ("SmallNet", "Stripes", "Lion")
    assert run.overrides == (CONF, "recipe=stripes")  # what repeats it
    jobs = check_sweep([CONF, "recipe=stripes", "model=small_net,test_efficientnet"], check).jobs
    assert [job.config.model.name for job in jobs] == ["SmallNet", "test_efficientnet"]

    group = tmp_path / "experiment"
    group.mkdir()
    (group / "short.yaml").write_text("# @package _global_\ntrain: {duration: 3step}\n")
    (group / "wrong.yaml").write_text("# @package _global_\ntrain: {durration: 3step}\n")
    (group / "bare.yaml").write_text("train: {duration: 3step}\n")
    own = f"--config-dir={tmp_path}"
    assert check([own, "+experiment=short"]).lengths.total_steps == 3
    for overrides, words in (
        (["experiment=short"], "write +experiment=short"),
        (["+experiment=wrong"], "Key 'durration' not in 'TrainConfig'"),
        (["+experiment=bare"], "begin with # @package _global_"),
        (["+experiment=shrt"], "did you mean experiment=short"),
    ):
        (fault,) = faults_of(check, [own, *overrides])
        assert words in str(fault)
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "wide.yaml").write_text("_target_: examples.small_net.SmallNet\nwidth: 24\n")
    (fault,) = faults_of(check, [own, "model=wide"])
    assert "Key 'width' not in 'ModelConfig'" in str(fault)
    assert "arguments of a _target_ go under kwargs" in str(fault)
    (tmp_path / "optimizer").mkdir()
    (tmp_path / "optimizer" / "lars.yaml").write_text("lr: 3\n")
    (fault,) = faults_of(check, [own, "optimizer=lars"])
    assert "hidden by the optimizer=lars of conf/" in str(fault)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--cfg", "job", "optimizer=lars"], ["trust_coefficient: 0.001", "global_batch: 128"]),
        (["--config-dir", str(ROOT / "examples/conf"), "model=small_net", "--cfg=job"], ["width: 24"]),
        (["--info", "defaults", "optimizer=lars"], ["schema/optimizer/lars", "schedule/cosine"]),
        (["--config-dir", str(ROOT / "examples/conf"), "-i", "searchpath"], ["examples/conf"]),
    ],
)
def test_hydras_own_flags_show_what_is_composed(arguments, words, capfd):
    assert main(["train", *arguments]) == 0
    said = capfd.readouterr().out
    assert all(word in said for word in words), said


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--cfg", "jub"], "did you mean --cfg job?"),
        (["--info"], "nothing follows it"),
        (["--cfg", "job", "train.globl_batch=1"], "did you mean train.global_batch?"),
        (["hydra.run.dir=x"], "a run's folder is run.root/run.name"),
        (["-m", "hydra.sweep.dir=x", "train.seed=1,2"], "a sweep's folder is run.root/run.name"),
        (["-m", "hydra.job.chdir=true", "train.seed=1,2"], "a run stays where it was started"),
    ],
)
def test_hydras_own_flags_that_have_no_sense_here_say_why(arguments, words, capsys):
    assert main(["train", *arguments]) == 2
    assert words in capsys.readouterr().err


def test_parts_are_found_where_a_command_is_given(tmp_path, monkeypatch, capsys):
    (tmp_path / "net_of_mine.py").write_text("from examples.small_net import SmallNet as Net\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr("xlatrain.xla.launch.launch", lambda *a, **k: {"status": "done", "steps": 1})
    assert main(["train", "model._target_=net_of_mine.Net"]) == 0


@pytest.mark.replicas
def test_a_run_of_parts_of_ones_own_learns_and_its_weights_know_them(tmp_path):
    from xlatrain.engine.run import evaluate, train
    from xlatrain.preflight.weights_file import read_facts

    where = [f"run.root={tmp_path}", "cluster.replicas=2"]
    summary = train([CONF, "recipe=stripes", "data.workers=2", "+data.kwargs.samples=256", *where])
    assert summary["top1"] > 0.9
    assert summary["compiles"] == {"train": 1, "eval": 1}
    weights = Path(summary["run"]) / "weights.safetensors"
    facts = read_facts(weights)
    assert (facts.timm, facts.options["model._target_"]) == (None, "examples.small_net.SmallNet")
    (fault,) = faults_of(evaluate, [f"weights={weights}", STRIPES])  # a file alone makes no code run
    again = evaluate([f"weights={weights}", STRIPES, "+data.kwargs.samples=256", fault.cure.split()[-1], *where])
    assert (again["top1"], again["eval_examples"]) == (summary["top1"], 256)
    (fault,) = faults_of(evaluate, [f"weights={weights}", STRIPES, "model._target_=tests.test_own_parts.same_net"])
    assert "holds SmallNet" in str(fault)


def same_net(num_classes, width=24):
    from examples.small_net import SmallNet

    return SmallNet(num_classes, width)
