"""What JAX's runtime compiled is kept up to a size: what was not used for longest goes first."""

import pytest

from xlatrain.engine import run as runs
from xlatrain.preflight.check import check
from xlatrain.xla import launch as launcher
from xlatrain.xla.launch import launch

jax = pytest.importorskip("jax")


@pytest.mark.one_replica
def test_a_full_cache_lets_go_of_the_program_used_least_lately(tmp_path, monkeypatch):
    """A limit that holds two of three programs of the same size, the first of which is used again before the third."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    folder = tmp_path / "xlatrain" / "jax" / jax.__version__

    def compiles(*names, limit):
        return launch("tests.replica_jobs:compile_steps", names, runtime="jax", cache_bytes=limit)

    assert compiles("2", limit=None) == {"2": 1}
    (size,) = (path.stat().st_size for path in folder.glob("*-cache"))
    found = compiles("3", "2", "4", "2", "3", limit=int(2.5 * size))
    assert found == {"3": 2, "2": 0, "4": 1}
    assert len(list(folder.glob("*-cache"))) == 2


def test_the_limit_is_an_option(tmp_path, monkeypatch):
    given = []

    def record(*_, cache_bytes, **__):
        given.append(cache_bytes)
        return {"status": "done", "steps": 0}

    monkeypatch.setattr(launcher, "launch", record)
    for number, override in enumerate(["compile_cache_gb=0.5", "compile_cache_gb=null", "runtime=jax"]):
        runs.train(check([f"run.root={tmp_path}", f"run.name={number}", f"engine.{override}"]))
    assert given == [500_000_000, None, 10_000_000_000]


def test_a_folder_that_the_user_has_named_to_jax_is_left_as_it_is():
    from xlatrain.xla.jax_join import _keep_programs  # jax is an extra

    names = ("compilation_cache_dir", "compilation_cache_max_size", "persistent_cache_min_compile_time_secs")
    before = {f"jax_{name}": getattr(jax.config, f"jax_{name}") for name in names}
    try:
        jax.config.update("jax_compilation_cache_dir", "/a/folder")
        _keep_programs(5)
        assert jax.config.jax_compilation_cache_dir == "/a/folder"
        assert jax.config.jax_compilation_cache_max_size == before["jax_compilation_cache_max_size"]
    finally:
        for name, value in before.items():
            jax.config.update(name, value)
