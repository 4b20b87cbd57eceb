"""A run says what made it: command, versions, commit."""

import json

import pytest
from omegaconf import OmegaConf

from xlatrain.config.compose import compose_config
from xlatrain.engine import provenance
from xlatrain.engine import run as runs
from xlatrain.preflight.check import check


def test_a_configuration_on_disk_composes_again_and_says_where_it_comes_from(tmp_path):
    config, _ = compose_config(["data=synthetic", "run.name='é'"])
    origin = provenance.provenance(["xlatrain", "train", "run.name='é'", "x=" + "long " * 40 + "\n# not a comment"])
    runs.write_config(tmp_path / "config.yaml", config, origin)
    assert OmegaConf.to_object(OmegaConf.merge(config, OmegaConf.load(tmp_path / "config.yaml"))) == config
    text = (tmp_path / "config.yaml").read_text()
    assert text.startswith("# command: ")
    assert f"\n# host: {origin['host']}\n" in text
    assert json.loads(json.dumps(origin)) == origin


def test_jax_is_among_the_versions_where_it_ran_the_steps():
    pytest.importorskip("jax")
    named = {}
    for runtime in ("torch_xla", "jax"):
        config = check([f"engine.runtime={runtime}"]).config
        named[runtime] = set(provenance.provenance([], provenance.used_by(config))["versions"])
    assert named["jax"] - named["torch_xla"] == {"jax", "jaxlib"}


def test_the_commit_is_that_of_the_package_and_not_of_a_folder_around_it(tmp_path, monkeypatch):
    def git(*arguments):
        provenance.subprocess.run(
            ["git", "-c", "user.name=a", "-c", "user.email=a@b", *arguments],
            cwd=tmp_path,
            check=True,
            capture_output=True,
        )

    package = tmp_path / "xlatrain"
    package.mkdir()
    (package / "provenance.py").write_text("")
    monkeypatch.setattr(provenance, "_PACKAGE", package)
    monkeypatch.setattr(provenance, "__file__", str(package / "provenance.py"))
    assert "commit" not in provenance.provenance([])
    git("init")
    git("commit", "--allow-empty", "-m", "other")
    assert "commit" not in provenance.provenance([])
    git("add", ".")
    git("commit", "-m", "package")
    found = provenance.provenance([])
    assert len(found["commit"]) == 40
    assert found["modified"] is False
    (package / "new.py").write_text("")
    assert provenance.provenance([])["modified"] is True
