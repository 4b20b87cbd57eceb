"""The workflows of GitHub's do what they say: their commands are there, and their options go together."""

import os
import re
import shlex
from functools import partial
from pathlib import Path

import pytest
import yaml

from xlatrain.cli.plan import _small
from xlatrain.cli.verbs import take_flags
from xlatrain.preflight.check import check

ROOT = Path(__file__).parent.parent
WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.yaml"))


def steps(path):
    """The steps of a workflow's only job, and its variables."""
    workflow = yaml.safe_load(path.read_text())
    assert {"push", "pull_request"} <= set(workflow[True])  # `on`, by YAML 1.1
    (job,) = workflow["jobs"].values()
    assert job["timeout-minutes"]
    return job["steps"], workflow.get("env", {})


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_each_step_runs_something_that_is_there(path, monkeypatch):
    monkeypatch.chdir(ROOT)
    found, variables = steps(path)
    assert found[0]["uses"].startswith("actions/checkout@")
    for step in found:
        assert ("uses" in step) != ("run" in step)
        if "uses" in step:
            assert re.fullmatch(r"actions/[\w-]+@v\d+", step["uses"])
        for key in ("cache-dependency-path",):
            assert (ROOT / step.get("with", {}).get(key, ".")).exists()
        for line in step.get("run", "").splitlines():
            follow([word.replace("$MODEL", variables.get("MODEL", "")) for word in shlex.split(line)])


def follow(words):
    """See that a command could be run, as far as can be seen without running it."""
    program, *arguments = words
    if program == "xlatrain":
        verb, *rest = arguments
        flags, overrides = take_flags(verb, rest)
        assert not any(word.startswith("-") for word in overrides)
        jobs = _small(overrides) if "--small" in flags else [overrides]
        for job in jobs:
            partial(check, starts=verb == "train")(job)
    elif program == "python":
        extras = re.fullmatch(r"\.\[(\w+)\]", arguments[-1]).group(1)
        assert arguments[:3] == ["-m", "pip", "install"]
        assert re.search(rf"^{extras} = \[", (ROOT / "pyproject.toml").read_text(), re.M)
    else:
        assert os.access(ROOT / program, os.X_OK)
        assert not arguments


def test_the_pattern_is_the_one_that_is_documented():
    found, variables = steps(ROOT / ".github/workflows/ci.yaml")
    lines = [step["run"] for step in found if step.get("run", "").startswith("xlatrain")]
    commands = [line.replace('"$MODEL"', variables["MODEL"]) for line in lines]
    assert len(commands) == 2
    for command in commands:
        assert f"$ {command}\n" in (ROOT / "docs/ci.md").read_text()


def test_what_plans_compile_is_kept_anew_when_the_model_changes():
    """A cache whose key is there already is not written: the key is the push's own, and begins as that of others."""
    found, _ = steps(ROOT / ".github/workflows/ci.yaml")
    (cache,) = (step["with"] for step in found if step.get("uses", "").startswith("actions/cache@"))
    assert cache["key"] == cache["restore-keys"] + "${{ github.sha }}"


def test_tests_are_run_as_anywhere_else():
    found, _ = steps(ROOT / ".github/workflows/tests.yaml")
    assert [step["run"] for step in found if "run" in step] == [".ci/run"]
