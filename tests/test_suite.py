"""The suite keeps its own rules: who imports whom, what may wait, and which tests start replicas."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

from xlatrain.xla.launch import launch

HERE = Path(__file__).parent
FILES = sorted(HERE.rglob("*.py"))


def imported(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or ""
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.slow
def test_no_test_imports_another_or_a_benchmark():
    """What several use lies in conftest.py or in a module of its own, which can be read without a test."""
    benchmarks = {path.stem for path in (HERE.parent / "benchmarks").glob("*.py")}
    for path in FILES:
        for name in imported(path):
            parts = name.split(".")
            assert parts[0] not in {"benchmarks", *benchmarks}, f"{path} imports {name}"
            assert parts[0] != "tests" or not any(part.startswith("test_") for part in parts), f"{path} imports {name}"


def test_waiting_is_for_something():
    """A guessed time is too short on one machine and too long on all others. slow.py is slow on purpose."""
    may = ("waiting.py", "slow.py", "test_suite.py")
    wrong = [path for path in FILES if re.search(r"(?<!\.)\btime\.sleep", path.read_text()) and path.name not in may]
    assert not wrong


def test_a_generator_belongs_to_a_case():
    """One that tests share makes each depend on those before it, so that a failure alone does not repeat."""
    makers = {"default_rng", "Generator", "Random", "RandomState", "manual_seed", "seed"}
    for path in FILES:
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.Assign | ast.Expr) and isinstance(node.value, ast.Call):
                function = node.value.func
                assert getattr(function, "attr", "") not in makers, f"{path}:{node.lineno}"


def test_a_test_without_the_mark_cannot_start_replicas():
    with pytest.raises(pytest.fail.Exception, match="mark it"):
        launch("tests.replica_jobs:run_errors", replicas=1)
    with pytest.raises(pytest.fail.Exception, match="mark it"):
        subprocess.run([sys.executable, "-m", "xlatrain", "train"])
