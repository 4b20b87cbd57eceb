"""The command itself, in processes: `xlatrain launch`, launch/tpu_vm.sh, the stand-in's gcloud, a machine's answers."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from xlatrain.version import VERSION

ROOT = Path(__file__).parent.parent.parent

# What a machine has for a Python with xlatrain: it answers, and its run goes on until it is stopped.
PYTHON = f"""#!/bin/bash
case $3 in
  check) said='"versions": {{"xlatrain": "{VERSION}"}}, "failed": []' ;;
  stop) touch stopped ;&
  *) if [[ -e stopped ]]; then said='"state": "ended", "code": 75, "asked": true, "said": ""'
     else said='"state": "running", "step": 3, "sick": []'; fi ;;
esac
echo "xlatrain-worker: {{$said}}"
"""


def _hears_all():
    """A shell's `&` has its commands ignore the one, nohup the other."""
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


@pytest.fixture
def launched(tmp_path):
    """A launch whose run is in step 3, and what it has said."""
    python = tmp_path / "python"
    python.write_text(PYTHON)
    python.chmod(0o755)
    cloud = tmp_path / "cloud"
    cloud.mkdir()
    (cloud / "script.json").write_text('[{"states": ["CREATING", "ACTIVE"]}]')
    options = [
        "launch.stand_in=true", "launch.name=b2", "launch.zone=nowhere-west1-a", f"launch.folder={tmp_path}/kept",
        f"launch.python={python}", "launch.poll=0.3", "cluster=cpu", "cluster.hosts=2", "engine.runtime=jax",
    ]  # fmt: skip
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "XLATRAIN_STAND_IN": str(cloud)}
    command = [sys.executable, "-m", "xlatrain", "launch", "--until-done", *options]
    process = subprocess.Popen(
        command,
        cwd=tmp_path,
        env=environment,
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=_hears_all,
    )
    said = []
    while not said or "step 3" not in said[-1]:
        said.append(process.stderr.readline())
        assert said[-1], said
    yield process, said
    process.kill()
    process.wait()


@pytest.mark.slow
def test_ctrl_c_in_the_midst_of_a_run_saves_it_and_leaves_no_machine(launched, tmp_path):
    process, said = launched
    process.send_signal(signal.SIGINT)
    said += process.stderr.read().splitlines()
    assert process.wait(60) == 130
    assert machines(tmp_path) == {}
    assert any("nobody to ask" in line for line in said)
    assert "no machine is left; spent: " in said[-1]
    assert (tmp_path / "cloud/machines/b2.1/worker-1/xlatrain-b2/stopped").exists()
    bill = json.loads((tmp_path / "runs/b2/launch.json").read_text())
    assert (bill["tries"], len(bill["machines"])) == (1, 1)


@pytest.mark.slow
def test_a_terminal_that_is_closed_takes_its_machine_with_it(launched, tmp_path):
    process, _ = launched
    process.stderr.close()  # what is said is an error from here on
    process.send_signal(signal.SIGHUP)
    assert process.wait(60) == 130
    assert machines(tmp_path) == {}
    assert (tmp_path / "cloud/machines/b2.1/worker-1/xlatrain-b2/stopped").exists()


def machines(folder):
    """Those that exist, by the stand-in's ledger."""
    return json.loads((folder / "cloud/cloud.json").read_text())["machines"]
