"""The page on runs says what is in their folders, whatever state they are in, and needs nothing but itself."""

import json
import re
import shutil
from html.parser import HTMLParser

import pytest

from xlatrain.cli.main import main
from xlatrain.engine.run_folder import held_folder
from xlatrain.engine.spent import PLACES
from xlatrain.errors import EXIT_CONFIG, EXIT_DONE
from xlatrain.reporting.limit import limit_of_steps
from xlatrain.reporting.record import read_record

pytestmark = pytest.mark.one_replica
_VOID = {"meta", "link", "br", "i", "circle", "path"}  # or closed in the same breath


class Page(HTMLParser):
    """A page as it is read: its words, its headings, and anything that it would fetch or run."""

    def __init__(self, text):
        super().__init__()
        self.words, self.headings, self.foreign, self._in = [], [], [], []
        self.feed(text)
        self.text = re.sub(r"\s+", " ", " ".join(self.words))

    def handle_starttag(self, tag, attributes):
        self._in.append(tag)
        named = dict(attributes)
        links = [v for k, v in named.items() if k in ("src", "href", "xlink:href") and v != "data:,"]
        if tag in ("script", "iframe", "img", "object") or links or any(k.startswith("on") for k in named):
            self.foreign.append((tag, named))

    def handle_data(self, data):
        if self._in and self._in[-1] == "style":
            self.foreign += re.findall(r"@import|url\([^)]*\)|https?:", data)
            return
        if self._in and self._in[-1] in ("h1", "h2") and data.strip():
            self.headings.append(data.strip())
        self.words.append(data)


def page_of(tmp_path, *arguments):
    out = tmp_path / "page.html"
    assert main(["report", *map(str, arguments), f"out={out}"]) == EXIT_DONE
    assert out.stat().st_size < 2e6
    page = Page(out.read_text())
    assert page.foreign == []
    return page


@pytest.mark.parametrize("place", ["data", "device", "host"])
def test_a_run_that_is_slow_on_purpose_is_told_what_limits_it_and_what_to_turn(slow_runs, place):
    record = read_record(slow_runs[place], place)
    limit = limit_of_steps(record.spent, record.options)
    assert limit.place == place, record.spent
    assert limit.option.partition("=")[0] == {
        "data": "data.workers", "device": "data.image_size", "host": "engine.replay"
    }[place]  # fmt: skip
    assert sum(record.spent.values()) == pytest.approx(record.summary["wall_seconds"], abs=0.01)
    assert min(record.spent.values()) >= 0
    assert all(tuple(line["spent"]) == PLACES for line in record.train + record.eval)


def test_a_table_of_ops_that_is_damaged_is_left_out(slow_runs, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(slow_runs["device"], run)
    whole = json.loads((run / "profile/ops.json").read_text())
    for spoilt in ({}, {**whole, "ops": [{}]}, {**whole, "ms_per_step": None}, [], {**whole, "ops": 3}):
        (run / "profile/ops.json").write_text(json.dumps(spoilt))
        assert read_record(run, "run").profile == {}
    (run / "profile/ops.json").write_text(json.dumps(whole))
    assert read_record(run, "run").profile == whole


def test_a_page_on_a_run_has_all_its_parts(slow_runs, tmp_path):
    page = page_of(tmp_path, slow_runs["device"])
    parts = ["Curves", "Where the time went", "Dearest ops", "Time and cost to accuracy", "Events", "Options"]
    assert page.headings == ["device", *parts, "Machine and versions"]
    for words in ("Steps are limited by the device", "Done, step 10", "No cost: the cluster has no price",
                  "learning rate", "GiB", "torch_xla 2.9", "engine.profile"):  # fmt: skip
        assert words in page.text
    assert "convolution_backward" in page.text


def test_several_runs_are_laid_over_each_other_with_what_they_differ_in(slow_runs, tmp_path):
    page = page_of(tmp_path, *slow_runs.values())
    assert page.headings[:2] == ["3 runs compared", "Options in which they differ"]
    differing = page.text.partition("Options in which they differ")[2].partition("Curves")[0]
    assert "engine.replay" in differing
    assert "cluster.replicas" not in differing
    assert "run.name" not in differing
    text = (tmp_path / "page.html").read_text()
    loss = text.partition("aria-label='loss'")[2].partition("</svg>")[0]
    assert {f"var(--s{i})" for i in range(3)} <= set(re.findall(r"stroke='(.*?)'", loss))


def test_a_run_is_named_by_its_name_too_and_costs_by_the_prices_of_its_cluster(slow_runs, tmp_path, monkeypatch):
    shutil.copytree(slow_runs["data"], tmp_path / "elsewhere/mine")
    config = tmp_path / "elsewhere/mine/config.yaml"
    chip = "chip: {name: v9, price_on_demand: 36.0, price_spot: 3.6, price_date: in 2025}"
    text = config.read_text().replace("  chip: null", f"  {chip}").replace("  topology: []", "  topology: [2, 5]")
    assert chip in text
    config.write_text(text)
    monkeypatch.chdir(tmp_path)
    page = page_of(tmp_path, "mine", "run.root=elsewhere")
    wall = json.loads((tmp_path / "elsewhere/mine/summary.json").read_text())["wall_seconds"]
    cost = float(re.search(r"([\d.]+) USD, [\d.]+ spot", page.text)[1])
    assert cost == pytest.approx(wall * 10 * 36 / 3600, abs=0.011)
    assert "Prices: in 2025." in page.text


def test_damaged_lines_are_left_out_and_counted(a_run, tmp_path):
    path = a_run / "metrics.jsonl"
    whole = path.read_bytes().splitlines(keepends=True)
    bad = [b"\x00\xff\n", b"5\n", b'{"kind": "train"}\n', b'{"kind": "train", "step": "x", "epoch": 0}\n', b"null\n"]
    odd = b'{"kind": "train", "step": 3, "epoch": 0.1, "loss": null, "lr": "high", "top1": [], "spent": {"data": 1}}\n'
    path.write_bytes(b"".join([*bad, odd, *whole[:-1]]) + whole[-1][:9])
    page = page_of(tmp_path, a_run)
    assert "Left out: 6 lines of metrics.jsonl that could not be read" in page.text
    assert "Curves" in page.headings


def test_a_run_that_still_goes_on_is_shown_as_it_is_now(a_run, tmp_path):
    (a_run / "summary.json").unlink()
    with held_folder(a_run):
        page = page_of(tmp_path, a_run)
    assert "Still going on, at step 10" in page.text
    assert "Steps are limited by waiting for data" in page.text


def test_a_run_that_failed_at_once_has_a_page_that_says_so(a_run, tmp_path):
    (a_run / "metrics.jsonl").unlink()
    shutil.rmtree(a_run / "heartbeats")
    about = {"status": "failed", "steps": 0, "error": "RuntimeError: <no> room"}
    (a_run / "summary.json").write_text(json.dumps(about))
    page = page_of(tmp_path, a_run)
    assert "Failed at step 0: RuntimeError: <no> room" in page.text
    assert "It has logged no step" in page.text
    assert "Curves" not in page.headings
    (a_run / "summary.json").unlink()
    (a_run / "config.yaml").write_text(": no yaml [")
    assert "Never begun" in page_of(tmp_path, a_run).text


def test_a_run_without_an_evaluation_and_of_an_earlier_version_says_both(a_run, tmp_path):
    rows = [json.loads(line) for line in (a_run / "metrics.jsonl").read_text().splitlines()]
    rows = [{k: v for k, v in row.items() if k != "spent"} for row in rows if row["kind"] != "eval"]
    spike = {"kind": "event", "step": 4, "epoch": 0.5, "event": "loss_spike", "loss": 9.25, "median": 1.0}
    (a_run / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in [*rows, spike]))
    (a_run / "summary.json").write_text(json.dumps({"status": "stopped", "stopped_by": "SIGTERM", "steps": 6}))
    page = page_of(tmp_path, a_run)
    for words in ("Stopped by SIGTERM at step 10", "has not been evaluated", "made by an earlier version",
                  "loss spike", "loss 9.25, median 1"):  # fmt: skip
        assert words in page.text
    assert "Time and cost to accuracy" not in page.headings


def test_a_run_that_diverged_says_so(a_run, tmp_path):
    rows = [json.loads(line) for line in (a_run / "metrics.jsonl").read_text().splitlines()]
    rows = [{**row, "loss": None} if row["kind"] == "train" else row for row in rows]
    (a_run / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert "Its loss is no number in the end" in page_of(tmp_path, a_run).text


def test_a_rate_that_is_not_known_yet_is_none(a_run, tmp_path):
    rows = [json.loads(line) for line in (a_run / "metrics.jsonl").read_text().splitlines()]
    rows = [{**row, "images_per_second": 0.0} if row["kind"] == "train" else row for row in rows]
    (a_run / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (a_run / "summary.json").write_text(json.dumps({"status": "failed", "steps": 6, "error": "no"}))
    page = page_of(tmp_path, a_run)
    assert "learning rate" in page.text
    assert "throughput" not in page.text
    assert read_record(a_run, "").images_per_second is None


FOREIGN = [None, True, -1, 1.5, float("inf"), 1e308, 10**400, "", "a <b> \udcff", [], [1], {}, {"a": 1}]


@pytest.mark.parametrize("value", FOREIGN, ids=[str(i) for i in range(len(FOREIGN))])
def test_files_of_another_program_under_the_same_names_have_a_page_too(tmp_path, value):
    """Whatever stands where a run writes something."""
    of_run = ("status", "steps", "top1", "top5", "loss", "error", "images_per_second", "wall_seconds", "spent")
    told = dict.fromkeys(("host", "machine", "command", "versions", "commit", "modified"), value)
    spent = dict.fromkeys(PLACES, value)
    summaries = [dict.fromkeys((*of_run, "provenance"), value), {"provenance": told, "spent": spent}]
    lines = [
        {"kind": kind, "step": step, "epoch": epoch, **dict.fromkeys(("loss", "top1", "lr", "event", "spent"), value)}
        for kind in ("train", "eval", "event", value)
        for step, epoch in ((1, 0.5), (value, 0.5), (1, value))
    ]
    cluster = {"chip": {"price_on_demand": value}, "topology": value}
    options = {"data": value, "cluster": cluster, "train": [value]}
    op = {"scope": "a", "operation": "b", "name": "c", "ms": value}
    for i, summary in enumerate(summaries):
        folder = tmp_path / str(i)
        (folder / "profile").mkdir(parents=True)
        (folder / "summary.json").write_text(json.dumps(summary))
        (folder / "metrics.jsonl").write_text("\n".join(map(json.dumps, lines)))
        (folder / "config.yaml").write_text(json.dumps(options))
        (folder / "profile" / "ops.json").write_text(
            json.dumps({"first_step": 1, "last_step": 2, "ms_per_step": value or 1.0, "ops": [op]})
        )
    assert "Machine and versions" in page_of(tmp_path, tmp_path / "0").headings
    assert "Options in which they differ" in page_of(tmp_path, tmp_path / "0", tmp_path / "1").headings


def test_a_long_run_stays_small_and_its_spikes_seen(a_run, tmp_path):
    line = {"kind": "train", "top1": 0.5, "lr": 0.1, "images_per_second": 9.0}
    rows = [{**line, "step": i, "epoch": i / 100, "loss": 777.0 if i == 12345 else 1.0} for i in range(20000)]
    (a_run / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    page_of(tmp_path, a_run)
    text = (tmp_path / "page.html").read_text()
    assert len(text) < 100_000
    assert ">100<" in text.partition("aria-label='loss'")[2].partition("</svg>")[0]  # on an axis that holds the spike


def test_a_sweep_has_a_table_its_best_and_parallel_coordinates(slow_runs, tmp_path):
    sweep = tmp_path / "runs/grid"
    sweep.mkdir(parents=True)
    lines = []
    for number, (rate, optimizer) in enumerate([(0.01, "sgd"), (0.1, "sgd"), (1, "lars"), (10, "lars"), (5, "lars")]):
        own = ["train.seed=1", f"optimizer.lr={rate}", f"optimizer={optimizer}"]
        lines.append(json.dumps({"job": number, "overrides": own, "key": own}) + "\n")
        if number < 4:
            summary = json.loads((slow_runs["data"] / "summary.json").read_text())
            shutil.copytree(slow_runs["data"], sweep / str(number))
            result = {"status": "failed", "error": "it <broke>"} if number == 3 else {"top1": 0.5 + number / 10}
            (sweep / f"{number}/summary.json").write_text(json.dumps({**summary, **result}))
    (sweep / "jobs.jsonl").write_text("".join(lines) + '{"job": 5, "overr')
    page = page_of(tmp_path, sweep)
    assert page.headings[:4] == ["grid", "Options and top1", "Jobs", "Curves"]
    assert "3 of 5 jobs are done. Best by top1: job 2, 0.7000, optimizer.lr=1 optimizer=lars" in page.text
    assert "it <broke>" in page.text
    assert "not begun" in page.text
    drawing = (tmp_path / "page.html").read_text().partition("<svg class=lines")[2].partition("</svg>")[0]
    assert drawing.count("<title>") == 3
    assert drawing.count("class=best") == 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], ["no run is named", "xlatrain report runs/NAME"]),
        (["nowhere"], ["there is no run nowhere, here or in runs"]),
        (["empty"], ["empty is no folder of a run or a sweep"]),
        (["empty", "nowhere"], ["2 faults", "empty is no", "no run nowhere"]),
        (["empty", "out=page.png"], ["page.png is no name of a page", "out=FILE.html"]),
        (["empty", "out=no/such/page.html"], ["cannot be written"]),
        (["empty", "outt=page.html"], ["outt=page.html: no option of report"]),
        (["sweep"], ["has no job yet"]),
        (["damaged"], ["jobs.jsonl cannot be read", "name single jobs"]),
        (["sweep", "begun"], ["sweep is a sweep, which has a page of its own"]),
    ],
)
def test_what_is_wrong_with_a_command_ends_it_and_writes_nothing(tmp_path, monkeypatch, capsys, arguments, words):
    monkeypatch.chdir(tmp_path)
    for name in ("empty", "sweep", "begun", "damaged"):
        (tmp_path / name).mkdir()
    (tmp_path / "sweep/jobs.jsonl").touch()
    (tmp_path / "damaged/jobs.jsonl").write_text("{}\nno line\n")
    (tmp_path / "begun/config.yaml").touch()
    assert main(["report", *arguments]) == EXIT_CONFIG
    said = capsys.readouterr().err
    assert all(word in said for word in words), said
    assert not list(tmp_path.glob("*.html"))
