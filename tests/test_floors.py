"""The floors of the house: imports go down only, nowhere in a circle, and torch_xla is imported in one folder."""

import subprocess
import sys

import pytest

from tests import floors

GRAPH = floors.import_graph()


def test_every_room_stands_on_a_floor():
    assert not floors.unknown_rooms()
    assert len(floors.FLOORS) <= 8


def test_imports_go_down_only():
    assert not floors.upward(GRAPH)


def test_no_files_import_each_other():
    assert not floors.circles(GRAPH)


@pytest.mark.slow
def test_only_the_seam_imports_what_runs_steps():
    """JAX belongs to the TPU's compiler too, a process of its own, and to the program of a bundle."""
    others = ["planning", "xla", "bundle"]
    outside = {"torch_xla": ["xla"], "_XLAC": ["xla"], "jax": others, "jaxlib": others}
    for path in floors.files():
        room = floors.room_of(floors.name_of(path))
        found = {name.split(".")[0] for name in floors.imported_names(path)} & set(outside)
        assert all(room in outside[name] for name in found), f"{path} imports {found}"


def test_no_file_of_the_package_is_two_things():
    long = {floors.name_of(p): n for p in floors.files() if (n := len(p.read_text().splitlines())) > 300}
    assert not long


def test_the_graph_sees_what_it_is_there_to_see(tmp_path, monkeypatch):
    """An import inside a function, a relative one, a target of launch; a circle, an arrow up, and one within data/."""
    package = tmp_path / "xlatrain"
    for name, text in {
        "__init__.py": "",
        "errors.py": "def f():\n    from xlatrain.config import schema\n",
        "config/__init__.py": "",
        "config/schema.py": "from . import option\n",
        "config/option.py": "from xlatrain.config.schema import x\n",
        "xla/__init__.py": "RUN = 'xlatrain.cli.main:run'\n",
        "cli/__init__.py": "",
        "cli/main.py": "",
        "data/__init__.py": "",
        "data/order.py": "from xlatrain.data.make_shards import make\n",
        "data/make_shards/__init__.py": "",
        "data/make_shards/make.py": "",
    }.items():
        (package / name).parent.mkdir(parents=True, exist_ok=True)
        (package / name).write_text(text)
    monkeypatch.setattr(floors, "PACKAGE", package)
    graph = floors.import_graph()
    assert graph["errors"] == {"config.schema"}
    assert graph["xla"] == {"cli.main"}
    assert floors.circles(graph) == [["config.option", "config.schema"]]
    assert floors.upward(graph) == [
        "data.order imports data.make_shards.make, which is above it in data/",
        "errors imports config.schema, which is no floor below it",
        "xla imports cli.main, which is no floor below it",
    ]


@pytest.mark.slow
def test_checking_a_run_does_not_import_torch_xla_which_comes_when_asked_for():
    """Checking is what a user waits for, and a parent that has touched a device cannot spawn. Nor is wandb imported
    where it is installed, as timm does for itself."""
    code = """
import sys, xlatrain, xlatrain.cli.jobs
xlatrain.check([])
assert "torch_xla" not in sys.modules
assert "timm" in sys.modules and "wandb" not in sys.modules
xlatrain.CapturedStep, xlatrain.launch
assert "torch_xla" in sys.modules
assert all(getattr(xlatrain, name) for name in dir(xlatrain))
"""
    subprocess.run([sys.executable, "-c", code], check=True)
