"""What README and docs tell people to type: each command goes as far as the start of its replicas, each program runs.

A command is a line `$ ...` of a console block, or a span of code in the text that begins like one. One that no case
below knows fails, unless the document itself says of it: (not run here).
"""

from __future__ import annotations

import ast
import importlib.util
import json
import re
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import timm
from PIL import Image
from safetensors.torch import save_file

import xlatrain
from tests.launching.played import on_stage
from tests.warm import program
from xlatrain.bundle.readme import PROGRAM
from xlatrain.cli.main import main
from xlatrain.cli.verbs import VERBS, take_flags
from xlatrain.config.choices import groups
from xlatrain.config.override import option_keys
from xlatrain.errors import EXIT_CONFIG, EXIT_DONE, EXIT_FAILED, ReplicaError
from xlatrain.xla import launch as launcher

ROOT = Path(__file__).parent.parent
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]
LANGUAGES = {"console", "text", "python", "mermaid"}
NOT_RUN = "(not run here)"
PROGRAMS = ("xlatrain", "python", ".venv/bin/python", "make", "pip", "source")
# What stands for something of the reader's own, and what it is here.
OWN = {
    "NAME": "mine",
    "OTHER": "other",
    "FILE": "weights.safetensors",
    "FOLDER": ".",
    "BUCKET": "mine",
    "ROOT": "shards",
    "URL": "shards/train",
    "VERB": "train",
    "WORD": "optimizer",
}


@dataclass(frozen=True)
class Block:
    language: str
    text: str


@dataclass(frozen=True)
class Command:
    """words: as a shell takes them apart. output: what the document shows below it."""

    words: tuple[str, ...]
    output: str = ""
    runs: bool = True


def blocks(text: str) -> list[Block]:
    return [Block(*found) for found in re.findall(r"^```(\w*)\n(.*?)^```$", text, re.M | re.S)]


def commands(text: str) -> list[Command]:
    """Every command of a document, each once."""
    found = []
    for block in blocks(text):
        if block.language == "console":
            for part in re.split(r"^\$ ", block.text, flags=re.M)[1:]:
                line, _, output = part.replace("\\\n", " ").partition("\n")
                words = shlex.split(line, comments=True)
                found.append(Command(tuple(words), output.strip(), NOT_RUN not in line))
    for span in spans(text):
        if span.partition(" ")[0] in PROGRAMS and " " in span:
            words = shlex.split(span)
            if words[0] == "xlatrain" and all(re.fullmatch(r"[a-z][a-z-]+", word) for word in words):
                words.append("--help")  # it is only named, as in "what `xlatrain shards verify` reads"
            found.append(Command(tuple(words)))
    return list(dict.fromkeys(found))


def spans(text: str) -> list[str]:
    """Code within the text, each piece on one line."""
    prose = re.sub(r"^```.*?^```$", "", text, flags=re.M | re.S)
    return [re.sub(r"\s+", " ", span) for span in re.findall(r"`([^`]+)`", prose)]


def cases() -> list:
    """The commands of all documents; what several say alike, once."""
    places = {c: path.stem for path in reversed(DOCUMENTS) for c in commands(path.read_text()) if c.runs}
    return [pytest.param(c, id=f"{where}: {shlex.join(c.words)}"[:110]) for c, where in places.items()]


@pytest.fixture(scope="module")
def things(tmp_path_factory) -> Path:
    """What the documents take for granted: folders of photographs, shards of them, a run with weights, a clone."""
    folder = tmp_path_factory.mktemp("things")
    generator = np.random.default_rng(0)
    for root, split, classes, count in (
        ("photos", "train", 2, 130),
        ("photos", "val", 2, 4),
        ("cifar10-jpeg", "train", 10, 520),
        ("cifar10-jpeg", "test", 10, 10),
    ):
        for i in range(count):
            path = folder / root / split / f"class{i % classes}" / f"{i}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(generator.integers(0, 256, (32, 32, 3), dtype=np.uint8)).save(path)
    assert main(["shards", "from-folder", str(folder / "photos"), str(folder / "shards")]) == EXIT_DONE
    assert main(["shards", "from-folder", str(folder / "cifar10-jpeg"), str(folder / "cifar10")]) == EXIT_DONE
    (folder / "examples").symlink_to(ROOT / "examples")
    save_file(timm.create_model("test_efficientnet", num_classes=10).state_dict(), folder / "weights.safetensors")
    return folder


@pytest.fixture
def started(monkeypatch) -> list[str]:
    """What would have been started on replicas, by its name; each fails at once instead."""
    targets: list[str] = []

    def launch(target: str, *args, **kwargs):
        targets.append(target)
        raise ReplicaError("replica 0 failed: it was not started", EXIT_FAILED)

    monkeypatch.setattr(launcher, "launch", launch)
    return targets


@pytest.mark.slow  # all of them: `xlatrain` ninety times
@pytest.mark.parametrize("command", cases())
def test_command(command, things, started, tmp_path, monkeypatch, capsys):
    for thing in things.iterdir():
        if "from-folder" not in command.words or thing.name != command.words[-1]:
            (tmp_path / thing.name).symlink_to(thing)
    run = tmp_path / "runs" / OWN["NAME"]
    run.mkdir(parents=True)
    (run / "weights.safetensors").symlink_to(things / "weights.safetensors")
    for word in command.words[2:] if command.words[:2] == ("xlatrain", "report") else ():
        if "=" not in word:  # a run that has begun
            (tmp_path / fill(word)).mkdir(parents=True, exist_ok=True)
            (tmp_path / fill(word) / "config.yaml").touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "120")
    if "--clear-cache" in command.words:
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.syspath_prepend(ROOT / "benchmarks")  # where a script's neighbours are found
    if "hydra/sweeper=optuna" in command.words:
        pytest.importorskip("hydra_plugins.hydra_optuna_sweeper")
    if command.words[:2] == ("xlatrain", "launch") and "--help" not in command.words:
        follow_launch([fill(a) for a in command.words[1:]], tmp_path, monkeypatch, capsys)
    else:
        follow(command, started, capsys)


def follow_launch(arguments: list[str], folder: Path, monkeypatch, capsys) -> None:
    """To its end, on a slice that is played (tests/launching/played.py)."""
    verb, place = arguments[1], ["cluster=tpu_v4_32", "launch.zone=us-central2-b"]
    if verb == "manifest":
        assert main(arguments) == EXIT_DONE, capsys.readouterr().err
        return
    begins = verb in ("create", "--until-done")
    play = on_stage(folder, monkeypatch, exists=() if begins else arguments)
    if not begins:
        (folder / "runs/mine/launch.json").write_text(json.dumps({"overrides": [*place, "launch.name=mine"]}))
    assert main(arguments) == EXIT_DONE, capsys.readouterr().err
    assert play.machines == ([] if verb in ("--until-done", "delete") or "--dry-run" in arguments else ["mine"])


def follow(command: Command, started: list[str], capsys) -> None:
    """Do what a command says, as far as its replicas. Fails if it is none, or not as documented."""
    program, *arguments = (OWN.get(word, word) for word in command.words)
    arguments = [fill(a) for a in arguments if a != "…"]
    if program == "xlatrain":
        follow_xlatrain(arguments, command.output, started, capsys)
    elif program == "make":
        subprocess.run(["make", "--dry-run", *arguments], cwd=ROOT, check=True, capture_output=True)
    elif program in ("python", ".venv/bin/python") and arguments[0] == "-m":
        subprocess.run([sys.executable, *arguments], cwd=ROOT, check=True, capture_output=True)
    elif program == "python" and arguments[0].startswith("benchmarks/"):
        shown = help_of_benchmark(ROOT / arguments[0], capsys)
        assert all(flag.partition("=")[0] in shown for flag in arguments[1:] if flag.startswith("-")), shown
    elif program == "python" and arguments[0] == "run.py":
        assert len(arguments) - 1 <= 2
    elif program == "pip":
        declared = (ROOT / "pyproject.toml").read_text()
        assert arguments[0] == "install"
        for wanted in arguments[1:]:
            extras = re.fullmatch(r"xlatrain\[(.+)\]", wanted)
            for line in [rf"^{name} = \[" for name in extras.group(1).split(",")] if extras else [rf'"{wanted}\b']:
                assert re.search(line, declared, re.M)
    elif program == "launch/tpu_vm.sh":
        done = subprocess.run(["bash", program, *arguments], cwd=ROOT, check=True, capture_output=True, text=True)
        assert "--dry-run" in arguments
        assert done.stdout.strip() == command.output
    elif program == "launch/rehearse.sh":  # which tests/launching/test_rehearsal.py runs
        assert (ROOT / program).exists()
    else:
        assert (program, *arguments) == ("source", ".venv/bin/activate"), f"no case here knows {command.words}"


def follow_xlatrain(arguments: list[str], output: str, started: list[str], capsys) -> None:
    if arguments[0] == "supervise" and "--" in arguments:  # which would start it in a process of its own
        assert take_flags("supervise", arguments[1 : arguments.index("--")])[1] == []
        arguments = arguments[arguments.index("--") + 1 :]
    capsys.readouterr()
    quick = ["seconds=0.2"] if arguments[:2] == ["data", "bench"] else []
    trials = ["hydra.sweeper.n_trials=2" if a.startswith("hydra.sweeper.n_trials=") else a for a in arguments]
    if "sweep=search" in arguments:
        trials.append("hydra.sweeper.n_trials=2")
    code = main([*trials, *quick])
    said = capsys.readouterr()
    if "nothing was started" in output:
        assert (code, said.err.strip()) == (EXIT_CONFIG, output)
    elif arguments[0] == "doctor" and "--help" not in arguments:
        assert code in (EXIT_DONE, EXIT_FAILED), said.err  # as this machine is
        assert (started, said.err) == ([], "")
    elif arguments[0] in ("shards", "show", "status", "report") or "--help" in arguments or "--version" in arguments:
        assert (code, started) == (EXIT_DONE, []), said.err
    else:
        several = "-m" in arguments or "--check" in arguments
        assert len(started) > 1 if several else len(started) == 1, said.err


def fill(argument: str) -> str:
    """An argument with what stands for something of the reader's own filled in."""
    for word, own in OWN.items():
        argument = re.sub(rf"(?<![A-Z_]){word}(?![A-Z_])", own, argument)
    return argument.replace("data.root=…", "data.root=cifar10")


def help_of_benchmark(path: Path, capsys) -> str:
    spec = importlib.util.spec_from_file_location(f"benchmark_{path.stem}", path)
    benchmark = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = benchmark  # dataclasses look their module up
    arguments, sys.argv = sys.argv, [str(path), "--help"]
    try:
        spec.loader.exec_module(benchmark)
        with pytest.raises(SystemExit) as end:
            benchmark.main()
    finally:
        sys.argv = arguments
        del sys.modules[spec.name]
    assert not end.value.code
    return capsys.readouterr().out


@pytest.mark.parametrize(
    "line",
    [
        "xlatrain trian",
        "xlatrain train optimizer.lrr=1",
        "xlatrain train --verbose",
        "xlatrain eval weights=nowhere",
        "xlatrain plan cluster=tpu_v3_7",
        "xlatrain shards from-folder nowhere shards",
        "make everything",
        "python benchmarks/nothing.py",
        "python benchmarks/optimizers.py --nothing",
        "pip install 'xlatrain[nothing]'",
        "pip install nothing",
        "python run.py TRAIN.npz EVAL.npz more.npz",
        "rm -r runs",
    ],
)
def test_a_wrong_command_would_be_seen(line, started, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (command,) = commands(f"```console\n$ {line}   # a comment\n```\n")
    with pytest.raises((AssertionError, OSError, subprocess.CalledProcessError, AttributeError)):
        follow(command, started, capsys)


def test_a_command_that_is_marked_is_left_alone():
    (command,) = commands(f"```console\n$ rm -r runs   # {NOT_RUN}\n```\n")
    assert not command.runs


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_document(path):
    """Blocks are of kinds that are looked at, links lead somewhere, options and groups are known."""
    text = path.read_text()
    assert {block.language for block in blocks(text)} <= LANGUAGES
    assert text.count("```") == 2 * len(blocks(text))
    for link in re.findall(r"\]\(([^)]+)\)", text):
        if not link.startswith("http"):
            file, _, anchor = link.partition("#")
            target = path.parent / file if file else path
            assert target.exists(), link
            headings = re.findall(r"^#+ (.*)$", target.read_text(), re.M) if anchor else []
            assert not anchor or anchor in {re.sub(r"[^\w -]", "", h.lower()).replace(" ", "-") for h in headings}
    known, choices = set(option_keys()), groups()
    for span in spans(text):
        if found := re.fullmatch(r"\+?(\w+)((?:\.\w+)*)=\S+", span):
            group, rest = found.groups()
            if (rest and group in choices) or group in {key.partition(".")[0] for key in known}:
                key = group + rest
                assert key in known or key in choices or key.startswith(("model.kwargs.", "cluster.chip.")), span


def test_every_verb_is_in_a_command():
    used = {c.words[1] for path in DOCUMENTS for c in commands(path.read_text()) if c.words[0] == "xlatrain"}
    assert set(VERBS) <= used


def test_every_name_of_the_face_is_explained():
    told = {re.match(r"\w+", span).group() for span in spans((ROOT / "docs" / "python.md").read_text())}
    assert {name for name in xlatrain.__all__ if not name.startswith("_")} <= told


def test_what_is_shown_of_the_program_of_a_bundle_is_as_it_stands():
    shown = [block.text for block in blocks((ROOT / "docs" / "export.md").read_text()) if block.language == "python"]
    assert any(text in PROGRAM.read_text() for text in shown)


def test_the_readme_is_read_in_five_minutes():
    """At 220 words a minute, code and tables aside, which are looked at."""
    prose = re.sub(r"^```.*?^```$", "", (ROOT / "README.md").read_text(), flags=re.M | re.S)
    prose = "\n".join(line for line in prose.splitlines() if not line.startswith("|"))
    assert 300 < len(prose.split()) < 1100


@pytest.mark.replicas
def test_programs_run_as_they_stand(tmp_path):
    """The README's programs, in its order, in one folder. The first trains what the last one loads."""
    programs = [b.text for b in blocks((ROOT / "README.md").read_text()) if b.language == "python"]
    said = {}
    for text in programs:
        name = re.match(r"# (\w+\.py)\n", text).group(1)
        (tmp_path / name).write_text(text)
        done = program(tmp_path / name).wait()
        assert done.returncode == 0, f"{name}\n{done.stderr}"
        said[name] = done.stdout.strip().splitlines()[-1]
    assert set(said) == {"first.py", "my_steps.py", "predict.py"}

    summary = json.loads((tmp_path / "runs" / "first" / "summary.json").read_text())
    assert said["first.py"] == f"top-1 {summary['top1']:.4f}, weights in {summary['run']}"

    result = ast.literal_eval(said["my_steps.py"])
    assert result["captures"] == 1
    assert np.allclose(result["w"], [1, -2, 3], atol=1e-4)

    # PIL's resize of 8-bit images rounds where torch's of float32 does not: an image may fall to the other side.
    top1 = float(said["predict.py"].split()[-1])
    assert summary["top1"] > 0.5
    assert abs(top1 - summary["top1"]) <= 2 / 360 + 1e-4


def test_where_things_are_is_true():
    """CONTRIBUTING.md's table of places: each file is there, and has the names that are said to be in it."""
    table = (ROOT / "CONTRIBUTING.md").read_text().partition("## Where is …")[2].partition("One word, one meaning")[0]
    places = re.findall(r"`([\w/]+\.py)`(?:: ((?:`\w+`(?:, )?)+))?", table)
    assert len(places) > 25
    for path, names in places:
        text = (ROOT / "xlatrain" / path).read_text()
        for name in re.findall(r"`(\w+)`", names):
            assert re.search(rf"^\s*(?:def|class) {name}\b", text, re.M), f"{path} has no {name}"
