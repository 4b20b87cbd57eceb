"""The floors of the house: torch_xla is imported in one folder, and imports only go down."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "xlatrain"
FILES = sorted(PACKAGE.rglob("*.py"))

# Each floor may import itself, what is below it, and errors and config, which everyone may.
FLOORS = [
    {"xla"},
    {"layout", "duration", "lengths", "models", "data", "optim", "telemetry", "augment"},
    {"state"},
    {"resolve", "contradictions", "facts", "model_check"},
    {"step", "checkpoint", "preflight"},
    {"build", "check_eval"},
    {"evaluate"},
    {"train", "trace"},
    {"runs", "compose", "show", "plan", "pack"},
    {"sweeps"},
    {"jobs", "help", "plans"},
    {"input_bench"},
    {"cli"},
    {"__main__"},
]
LEVEL = {name: level for level, floor in enumerate(FLOORS) for name in floor} | {
    "errors": -1,
    "credentials": -1,
    "provenance": -1,
    "verbs": -1,
    "words": -1,
    "schema": -1,
    "config": -1,
    "config_cluster": -1,
    "config_data": -1,
    "user_cache": -1,
    "temporary": -1,
}


def imports(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def room(path):
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_only_the_seam_imports_torch_xla(path):
    outside = [name for name in imports(path) if name.split(".")[0] in ("torch_xla", "_XLAC")]
    assert not outside or room(path) == "xla", f"{path} imports {outside}"


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_go_down_only(path):
    if room(path) == "__init__":
        return
    for name in imports(path):
        parts = name.split(".")
        if parts[0] == "xlatrain" and len(parts) > 1 and parts[1] in LEVEL:
            assert LEVEL[parts[1]] <= LEVEL[room(path)], f"{room(path)} imports {parts[1]}, which is above it"


def test_no_file_of_the_package_is_two_things():
    long = {str(p.relative_to(PACKAGE)): n for p in FILES if (n := len(p.read_text().splitlines())) > 300}
    assert not long


def test_the_parent_process_does_not_import_torch_xla_to_check_a_run():
    """Checking is what a user waits for, and a parent that has touched a device cannot spawn."""
    import subprocess
    import sys

    code = (
        "import sys; from xlatrain import compose, preflight; compose.register_schemas(); "
        "preflight.check_train(compose.compose_config([])[0]); sys.exit('torch_xla' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
