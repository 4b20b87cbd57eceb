"""Every recipe composes and passes the checks, comes to its source's numbers, says where they are from, is listed."""

from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from xlatrain.cli.main import main
from xlatrain.cli.show_recipes import as_markdown
from xlatrain.config.choices import CONF, groups
from xlatrain.config.recipes import Recipe
from xlatrain.errors import EXIT_CONFIG, EXIT_DONE
from xlatrain.optim.schedule import learning_rate
from xlatrain.preflight import check as checks
from xlatrain.preflight.checked import CheckedRun

ROOT = Path(__file__).parents[2]
NAMES = [name for name in groups()["recipe"] if name != "none"]
FILES = [*(CONF / "recipe").glob("*.yaml"), *(CONF / "recipe/base").glob("*.yaml")]
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def runs():
    """Each recipe checked; of a model and size that several have, one is built."""
    built, build = {}, checks.build_blank

    def build_once(config, classes):
        key = repr((config.model, config.data.image_size, classes))
        if key not in built:
            built[key] = build(config, classes)
        return built[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(checks, "build_blank", build_once)
        return {name: checks.check(["data=synthetic", f"recipe={name}"], starts=False) for name in NAMES}


@dataclass(frozen=True)
class Row:
    """lr: the peak; warmup: in epochs."""

    batch: int
    lr: float
    warmup: float
    epochs: float

    @classmethod
    def of(cls, run: CheckedRun) -> "Row":
        batch, lengths = run.config.train.global_batch, run.lengths
        warmup = lengths.epoch(run.schedule.warmup_steps)
        return cls(batch, run.schedule.peak_lr, warmup, lengths.epoch(lengths.total_steps))


@pytest.mark.parametrize(
    ("name", "row"),
    [
        ("efficientnet_b0_4k", Row(4096, 0.256, 5, 350)),
        ("efficientnet_b7_4k", Row(4096, 0.256, 5, 350)),
        ("efficientnet_b2_16k_rmsprop", Row(16384, 1.024, 5, 350)),
        ("efficientnet_b2_16k_lars", Row(16384, 15.104, 50, 350)),
        ("efficientnet_b2_32k", Row(32768, 15.104, 50, 350)),
        ("efficientnet_b5_16k_lars", Row(16384, 15.104, 50, 350)),
        ("efficientnet_b5_65k", Row(65536, 20.736, 43, 350)),
        ("resnet50_lars_512", Row(512, 2**2, 10 / 64, 90)),
        ("resnet50_lars_1k", Row(1024, 2**2.5, 10 / 32, 90)),
        ("resnet50_lars_4k", Row(4096, 2**3.5, 10 / 8, 90)),
        ("resnet50_lars_8k", Row(8192, 2**4, 10 / 4, 90)),
        ("resnet50_lars_16k", Row(16384, 2**4.5, 5, 90)),
        ("resnet50_lars_32k", Row(32768, 2**5, 14, 90)),
        ("resnet50_lamb_4k", Row(4096, 4 / (2**1.5 * 100), 2.5, 90)),
        ("resnet50_lamb_8k", Row(8192, 0.02, 5, 90)),
        ("resnet50_lamb_16k", Row(16384, 4 / (2**0.5 * 100), 10, 90)),
        ("resnet50_lamb_32k", Row(32768, 0.04, 20, 90)),
        ("resnet50_mlperf_32k", Row(32768, 31.2, 25, 76.3)),
        ("resnet50_mlperf_65k", Row(65536, 24.699, 31, 88.9)),
        ("resnet50_goyal_8k", Row(8192, 3.2, 5, 90)),
        ("resnet50_rsb_a1", Row(2048, 5e-3, 5, 600)),
        ("resnet50_rsb_a3", Row(2048, 8e-3, 5, 100)),
        ("alexnet_bn_lars_8k", Row(8192, 10, 3.8, 100)),
        ("alexnet_bn_lars_16k", Row(16384, 24, 5, 100)),
        ("alexnet_bn_lars_32k", Row(32768, 32, 10, 102)),
        ("surfsara_14k", Row(14336, 4.8, 5, 90)),
        ("surfsara_14k_collapse", Row(14336, 0.254, 0, 4.5)),
        ("surfsara_4k", Row(4096, 1.6, 5, 24.94)),
        ("surfsara_4k_cycle3", Row(4096, 0.572, 3.2, 15.19)),
        ("surfsara_4k_collapse", Row(4096, 0.143, 0, 4.99)),
    ],
)
def test_a_recipe_comes_to_the_numbers_of_its_source(runs, name, row):
    found = Row.of(runs[name])
    step = row.batch / 1_281_167  # lengths are whole steps
    assert (found.batch, found.lr) == (row.batch, pytest.approx(row.lr, rel=1e-3))
    assert found.warmup == pytest.approx(row.warmup, rel=0.03, abs=step)
    assert found.epochs == pytest.approx(row.epochs, rel=0.01)


def test_cycles_of_surfsara_end_where_their_curves_do_not(runs):
    """Rates at the end of a stretch, as base * (1 - it / lr_iter) ** power gives them."""
    ends = {"surfsara_4k": 1.6 * (1 - 7799 / 18720), "surfsara_4k_cycle2": 0.764 * (1 - 4749 / 7500) ** 2}
    for name, expected in ends.items():
        schedule = runs[name].schedule
        assert learning_rate(schedule, schedule.total_steps - 1) == pytest.approx(expected)


def test_phases_of_dawnbench_have_the_batches_a_device_of_its_code(runs):
    shares = {"dawnbench_imagenet_16": [64, 128, 64, 192, 128], "dawnbench_imagenet_8": [128, 256, 128, 224, 128]}
    for name, share in shares.items():
        run = runs[name]
        replicas = run.config.cluster.replicas
        assert [phase.batch(replicas) for phase in run.phases] == share
        assert [phase.image_size for phase in run.phases] == [128, 128, 224, 224, 288]


def test_every_recipe_says_what_it_is_and_what_is_known(runs):
    for name, run in runs.items():
        said = run.config.recipe
        assert said.what, name
        assert said.numbers, name
        assert (said.claim is None) == (said.claim_is is None), name
        assert len({fact is None for fact in (said.hours, said.planned, said.step_ms, said.memory_gib)}) == 1, name
        if said.hours is not None:
            hours = run.lengths.total_steps * said.step_ms / 3.6e6
            assert said.hours == pytest.approx(hours, rel=0.05), name  # evaluations come on top


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_recipe_is_a_difference_with_its_evidence_above_it(path):
    """Its command, what its numbers are from, what was run; and no file repeats what its base says."""
    text = path.read_text()
    head = [line for line in text.splitlines() if line.startswith("#")]
    said = " ".join(line.lstrip("# ") for line in head)
    assert head[0] == "# @package _global_"
    if path.parent.name != "base" and path.stem != "none":
        assert f"recipe={path.stem}" in said
        assert any(word in said for word in ("Numbers:", "The rest:", "Read in", "Evidence"))
        assert any(word in said for word in ("Not run", "not run", "Evidence"))
    base = next((d for d in yaml.safe_load(text).get("defaults", []) if isinstance(d, str)), None)
    if base:
        own, theirs = (yaml.safe_load(p.read_text()) for p in (path, path.parent / f"{base}.yaml"))
        for key in set(own) & set(theirs) - {"defaults", "recipe"}:
            same = {k for k in own[key] if k in theirs[key] and own[key][k] == theirs[key][k]}
            assert not same, f"{path.name} repeats {key}.{same}"


def test_the_table_of_the_documents_is_what_the_command_writes(runs):
    written = as_markdown([Recipe(name, run.config) for name, run in runs.items()])
    assert (ROOT / "docs/recipes_table.md").read_text() == written


def test_recipes_are_found_by_words(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    assert main(["show", "recipes", "alexnet", "8k"]) == EXIT_DONE
    out = capsys.readouterr().out
    assert "alexnet_bn_lars_8k" in out
    assert "recalled" in out
    assert "1 recipe;" in out
    assert main(["show", "recipes", "--config-dir", str(ROOT / "examples/conf"), "stripes"]) == EXIT_DONE
    assert "stripes" in capsys.readouterr().out
    assert main(["show", "recipes", "nothing", "has", "this"]) == EXIT_CONFIG
    assert "is in no recipe" in capsys.readouterr().err
    assert main(["show", "recipes", "out=table.csv"]) == EXIT_CONFIG
