"""What is written down holds no password, token or key, whatever it came by."""

import json
import logging
import re
from pathlib import Path

import pytest
from omegaconf import OmegaConf

import xlatrain
from xlatrain.config.compose import compose_config
from xlatrain.credentials import masked
from xlatrain.engine.metrics import MetricsWriter
from xlatrain.engine.run_folder import log_to
from xlatrain.errors import ReplicaError

SECRET = "hunter2hunter2"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("data.root=https://me:word@host/a/b", "data.root=https://***@host/a/b"),
        ("https://me:w@rd@host:80/a@b", "https://***@host:80/a@b"),
        ("s3://token@bucket/x", "s3://***@bucket/x"),
        ("data.train='{https://h/a?sig=1,https://h/b?sig=2}'", "data.train='{https://h/a?***'"),
        ("gs://bucket/shards/{0..3}", "gs://bucket/shards/{0..3}"),
        ("what? me@home", "what? me@home"),
    ],
)
def test_credentials_in_urls_are_masked(text, expected):
    assert masked({"a": [text, 1]}) == {"a": [expected, 1]}


@pytest.mark.parametrize(
    "text",
    [
        f"+data.kwargs.token={SECRET} train.seed=1",
        f"'+data.kwargs.hf_token={SECRET}'",
        f"+data.kwargs.api_key='{SECRET}'",
        f"+data.kwargs.key={SECRET}",
        f"data.kwargs={{password:{SECRET},size:3}}",
        f"python x.py --api-key {SECRET} --seed 1",
        f"python x.py --token={SECRET}",
        f'  File "a.py", line 3\n    client = Client(secret_key="{SECRET}")',
        f"{{'AWS_SECRET_ACCESS_KEY': '{SECRET}', 'a': 1}}",
        f'{{"accessKey": "{SECRET}"}}',
        f"model:\n  kwargs:\n    password: {SECRET}\n",
        f"# token: {SECRET}",
        f"private_key='{SECRET} with an end that is cut",
        f"Authorization: Bearer {SECRET}",
        "use hf_abcdefghijklmnopqrstuv0123",
        "git clone https://x/y with ghp_abcdefghijklmnopqrstuv0123",
    ],
)
def test_what_is_named_or_shaped_like_a_secret_is_masked(text):
    assert SECRET not in masked(text)
    assert not re.search("[a-z]{20}", masked(text))
    assert "***" in masked(text)


@pytest.mark.slow
@pytest.mark.parametrize("part", ["a.", "-", "token ", "token='", "\n", "{", "'", "a://", "ya29."])
def test_masking_takes_no_longer_than_the_text(part):
    """Patterns that look back and forth would take minutes of this."""
    assert len(masked(part * 50_000)) > 1000


@pytest.mark.parametrize(
    "text",
    [
        "+model.kwargs.class_token=true",
        "+model.kwargs.reg_tokens=4 model.kwargs.global_pool=token",
        "Unexpected token: foo at line 3",
        "KeyError: 'conv_stem.weight'",
        "data.kwargs.token=${oc.env:HF_TOKEN}",
        "sort(key=len) of the key: first",
        "monkey=banana turkey: bird",
        "the learning rate is 0.1",
    ],
)
def test_what_only_sounds_like_one_is_left(text):
    assert masked(text) == text


def test_keys_of_dictionaries_decide_and_numbers_stay():
    kwargs = {"token": SECRET, "class_token": True, "key": SECRET, "num_tokens": 4, "name": "a"}
    expected = {"token": "***", "class_token": True, "key": "***", "num_tokens": 4, "name": "a"}
    assert masked({"kwargs": kwargs, "apiKey": "x1"}) == {"kwargs": expected, "apiKey": "***"}


@pytest.mark.parametrize("name", ["WANDB_API_KEY", "HF_TOKEN", "AWS_SECRET_ACCESS_KEY", "PGPASSWORD"])
def test_values_of_the_environment_are_masked_wherever_they_stand(name, monkeypatch, tmp_path):
    monkeypatch.setenv(name, SECRET)
    assert masked(["x" + SECRET + "y"]) == ["x***y"]
    monkeypatch.setenv(name, "short")
    assert masked("a short word") == "a short word"
    monkeypatch.setenv(name, str(tmp_path))  # a file that holds one
    assert masked(f"{tmp_path}") == f"{tmp_path}"


def test_no_file_of_a_run_holds_a_secret(tmp_path, monkeypatch):
    """Every file, of a run that fails with the secrets in its traceback and log."""
    monkeypatch.setenv("WANDB_API_KEY", "value-of-the-environment")
    secrets = (SECRET, "value-of-the-environment")

    def launch(target, checked, folder, start, **_):
        log_to(folder, [f"reads s3://{SECRET}@b"])
        logging.getLogger("xlatrain").info("token=%s WANDB value-of-the-environment", SECRET)
        writer = MetricsWriter(folder)
        writer.write("event", 1, 0.5, text=f"password={SECRET}", loss=1.0)
        writer.close()
        trace = f'Traceback\n  Client(api_key="{SECRET}")\nValueError: value-of-the-environment, token={SECRET}'
        raise ReplicaError(f"replica 0 failed:\n{trace}")

    monkeypatch.setattr("xlatrain.xla.launch.launch", launch)
    overrides = [
        *(f"run.root={tmp_path}", "run.name=r", f"+data.kwargs.token={SECRET}", f"data._target_={__name__}.photos"),
        *("data.num_classes=2", "train.global_batch=64", "model.name=test_efficientnet"),
        f"+data.kwargs.note='api_key={SECRET}'",
    ]
    logger = logging.getLogger("xlatrain")
    handlers, state = list(logger.handlers), (logger.level, logger.propagate)
    try:
        with pytest.raises(ReplicaError):
            xlatrain.train(overrides)
    finally:
        logger.handlers[:], (logger.level, logger.propagate) = handlers, state
    found = [path for path in (tmp_path / "r").rglob("*") if path.is_file() and path.stat().st_size]
    assert {"config.yaml", "summary.json", "train.log", "metrics.jsonl"} <= {path.name for path in found}
    for path in found:
        for secret in secrets:
            assert secret not in path.read_text(errors="replace"), path
    config = OmegaConf.load(tmp_path / "r/config.yaml")
    assert (config.data.kwargs.token, config.run.name) == ("***", "r")
    assert "***" in json.loads((tmp_path / "r/summary.json").read_text())["error"]


def photos(split, token, note):
    import torch

    images, labels = torch.zeros(64, 3, 8, 8, dtype=torch.uint8), torch.zeros(64, dtype=torch.int64)
    return torch.utils.data.TensorDataset(images, labels)


def test_the_facts_of_weights_hold_none():
    from xlatrain.preflight.facts import describe_weights

    config, _ = compose_config([f"+model.kwargs.token={SECRET}", "+model.kwargs.act_layer=relu"])
    told = describe_weights(config, 10, (), {"model_name": "a", "token": SECRET}, {}).to_json()
    assert SECRET not in told
    assert "relu" in told


@pytest.mark.slow
def test_every_place_that_writes_a_command_masks_it():
    """provenance() is the only source of command lines: whoever calls it masks what it gives, or it does not leave."""
    package = Path(xlatrain.__file__).parent
    for path in package.rglob("*.py"):
        for line in re.findall(r".*(?<!def )\bprovenance\(\[.*", path.read_text()):
            assert "masked(" in line, f"{path}: {line}"
