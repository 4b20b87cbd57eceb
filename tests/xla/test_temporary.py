"""What a process puts into temporary files is gone after it, also when it was killed; nothing else is touched."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from xlatrain.xla.temporary import clear_left_behind

HOLD = """
import multiprocessing, os, signal, sys, tempfile, time
from multiprocessing import resource_tracker
from xlatrain.xla.temporary import temporary_files
with temporary_files() as folder:
    tempfile.mkdtemp()
    lock = multiprocessing.get_context("spawn").Lock()
    if "alone" in sys.argv:
        os.kill(resource_tracker._resource_tracker._pid, signal.SIGKILL)
    open(tempfile.mkstemp()[1], "w").write("x")
    print(folder, flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def started(tmp_path):
    """Starts processes that hold a temporary folder until their input ends; returns each with its folder."""
    running = []

    def start(*arguments):
        environment = {**os.environ, "TMPDIR": str(tmp_path)}
        command = [sys.executable, "-c", HOLD, *arguments]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)
        running.append(process)
        return process, Path(process.stdout.readline().strip())

    yield start
    for process in running:
        process.kill()
        process.communicate()


def test_nothing_stays_of_a_process_that_ends(started, tmp_path):
    process, folder = started()
    assert len(list(folder.iterdir())) == 3
    process.communicate()
    assert process.returncode == 0
    assert not list(tmp_path.iterdir())


def test_the_next_process_clears_what_a_killed_one_left_and_nothing_else(started, tmp_path):
    killed, left = started("alone")  # what clears semaphores is killed with it
    alive, kept = started()
    killed.kill()
    killed.wait()
    assert left.exists()
    assert len(list(Path("/dev/shm").glob(f"sem.mp-{left.name}-*"))) == 1
    (tmp_path / "pymp-of-another-program").mkdir()
    (tmp_path / "xlatrain-shards").mkdir()
    (tmp_path / "link").symlink_to(left)
    _, own = started()
    assert not left.exists()
    assert not list(Path("/dev/shm").glob(f"sem.mp-{left.name}-*"))
    assert len(list(Path("/dev/shm").glob(f"sem.mp-{kept.name}-*"))) == 1
    assert alive.poll() is None
    assert len(list(kept.iterdir())) == 3
    assert {path.name for path in tmp_path.iterdir()} == {
        *(kept.name, own.name, "pymp-of-another-program", "xlatrain-shards", "link")
    }


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give a folder away")
def test_what_another_user_left_is_left(started, tmp_path):
    killed, left = started()
    killed.kill()
    killed.wait()
    os.chown(left, 12345, 12345)
    clear_left_behind(tmp_path)
    assert left.exists()
