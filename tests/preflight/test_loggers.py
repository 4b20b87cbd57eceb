"""Loggers that cannot be are faults before anything starts, with what to do."""

import importlib.util

import pytest

from xlatrain.config.run import LoggerConfig
from xlatrain.preflight.loggers import logger_faults


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def installed(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name)


def test_a_client_that_is_not_installed_is_named_with_its_extra(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    found = logger_faults(LoggerConfig(wandb=True, mlflow=True), {})
    assert [(f.key, f.cure) for f in found] == [
        ("logger.wandb", "pip install 'xlatrain[wandb]'"), ("logger.mlflow", "pip install 'xlatrain[mlflow]'")
    ]  # fmt: skip
    assert logger_faults(LoggerConfig(csv=True), {}) == []


@pytest.mark.usefixtures("installed")
def test_wandb_without_a_login_is_a_fault(tmp_path):
    (fault,) = logger_faults(LoggerConfig(wandb=True), {"HOME": str(tmp_path)})
    assert (fault.key, fault.problem) == ("logger.wandb", "Weights & Biases has no login here")
    assert "WANDB_MODE=offline" in fault.cure


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize("how", ["offline", "key", "netrc", "another host", "settings"])
def test_wandb_that_need_ask_nobody_is_none(tmp_path, how):
    variables = {"HOME": str(tmp_path)}
    if how == "offline":
        variables["WANDB_MODE"] = "offline"
    elif how == "key":
        variables["WANDB_API_KEY"] = "k"
    elif how == "settings":  # as `wandb offline` writes them
        (tmp_path / "wandb").mkdir()
        (tmp_path / "wandb/settings").write_text("[default]\nmode = offline\n")
    else:
        host = "api.wandb.ai" if how == "netrc" else "wandb.example.org"
        variables |= {"WANDB_BASE_URL": f"https://{host}"}
        (tmp_path / ".netrc").write_text(f"machine {host}\nlogin user\npassword k\n")
    assert logger_faults(LoggerConfig(wandb=True), variables) == []
