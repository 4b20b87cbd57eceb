"""What JAX's runtime compiled is kept up to a size: what was not used for longest goes first."""

import pytest

from xlatrain.engine.run import _cache_environment
from xlatrain.preflight.check import check
from xlatrain.xla.launch import launch

jax = pytest.importorskip("jax")


@pytest.mark.one_replica
def test_a_full_cache_lets_go_of_the_program_used_least_lately(tmp_path, monkeypatch):
    """A limit that holds two of three programs of the same size, the first of which is used again before the third."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    folder = tmp_path / "xlatrain" / "jax" / jax.__version__

    def compiles(*names, limit):
        where = {"environment": {"JAX_COMPILATION_CACHE_MAX_SIZE": str(limit)}, "runtime": "jax"}
        return launch("tests.replica_jobs:compile_steps", names, **where)

    assert compiles("2", limit=10**9) == {"2": 1}
    (size,) = (path.stat().st_size for path in folder.glob("*-cache"))
    found = compiles("3", "2", "4", "2", "3", limit=int(2.5 * size))
    assert found == {"3": 2, "2": 0, "4": 1}
    assert len(list(folder.glob("*-cache"))) == 2


def test_the_limit_is_an_option_and_a_folder_of_the_users_own_has_none_of_ours(monkeypatch):
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR", raising=False)
    name = "JAX_COMPILATION_CACHE_MAX_SIZE"
    assert _cache_environment(check(["engine.runtime=jax"]).config.engine) == {name: "10000000000"}
    engine = check(["engine.runtime=jax", "engine.compile_cache_gb=null"]).config.engine
    assert int(_cache_environment(engine)[name]) > 10**15
    assert _cache_environment(check([]).config.engine) == {}
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", "/a/folder")
    assert _cache_environment(engine) == {}
