"""Caches are measured, looked at for who may write there, and cleared of what is ours alone."""

import os

import pytest

from xlatrain.doctor.caches import check_caches, clear_caches
from xlatrain.files import using


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR", raising=False)
    folder = tmp_path / "xlatrain"
    plan = folder / "plan" / ("a" * 32)
    plan.mkdir(parents=True)
    (folder / "jax").mkdir()
    for path in (folder / "jax/m-cache", folder / "jax/m-atime", plan / "result.json", plan / "optimised.hlo.gz"):
        path.write_bytes(bytes(1000))
    (folder / "jax/notes.txt").write_text("mine")
    (folder / "plan/draft-1").mkdir()
    (folder / "plan/draft-1/program.pb").write_text("")
    os.symlink(tmp_path, folder / "plan" / ("b" * 32))
    (folder / "digits-0.2").mkdir()
    return folder


def test_what_is_ours_goes_and_nothing_else(cache):
    held = (cache / "jax/m-cache").open("rb")
    jax, plan = clear_caches()
    assert (jax.files, jax.bytes, jax.left) == (2, 2000, 1)
    assert (plan.files, plan.bytes, plan.left) == (2, 2000, 2)
    assert sorted(p.name for p in cache.rglob("*") if p.name != ".lock") == [
        *("b" * 32, "digits-0.2", "draft-1", "jax", "notes.txt", "plan", "program.pb")
    ]
    assert len(held.read()) == 1000  # who has a program open reads on


def test_a_cache_in_use_is_left(cache):
    with using(cache / "plan"):
        _, plan = clear_caches()
    assert plan.busy
    assert (cache / "plan" / ("a" * 32) / "result.json").exists()


def test_a_link_is_not_followed(cache, tmp_path):
    (cache / "jax").rename(tmp_path / "elsewhere")
    os.symlink(tmp_path / "elsewhere", cache / "jax")
    assert clear_caches()[0].files == 0
    assert (tmp_path / "elsewhere/m-cache").exists()


def test_nothing_there_is_nothing_done(tmp_path, monkeypatch, fake, examined):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "none"))
    assert [c.files for c in clear_caches()] == [0, 0]
    assert not (tmp_path / "none").exists()
    assert examined(check_caches, fake.machine())[0][1].startswith("none yet")


def test_sizes_are_told_and_who_else_may_write(cache, fake, examined, monkeypatch):
    said = examined(check_caches, fake.machine())
    assert [f[0] for f in said] == ["ok", "ok"]
    assert "of JAX: 0.0 MB in 3 files" in said[0][1]
    (cache / "jax").chmod(0o777)
    assert ("failed", f"everybody can write to {cache / 'jax'}, and put programs there that this user runs",
            f"chmod o-w {cache / 'jax'}") in examined(check_caches, fake.machine())  # fmt: skip
    (cache / "jax").chmod(0o700)
    if os.getuid() == 0:
        os.chown(cache / "jax", 12345, 12345)
        assert any("belongs to another user" in f[1] for f in examined(check_caches, fake.machine()))
