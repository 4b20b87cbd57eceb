"""Worker processes: the same batches as without, memory that is used again, and an end in every case."""

import gc
import os
import signal
import subprocess
import sys
from subprocess import PIPE

import pytest
import torch

from tests.shards import split, train, write
from tests.waiting import wait_for
from xlatrain.data.phase import Place
from xlatrain.errors import DataError
from xlatrain.xla.feed import HostFan


def usage():
    """Open files, shared memory by name, child processes, and resident memory of this process in MB. Not semaphores:
    any other process may make them."""
    gc.collect()
    children = [p for p in os.listdir("/proc") if p.isdigit() and _parent(p) == os.getpid()]
    with open("/proc/self/statm") as file:
        resident = int(file.read().split()[1]) * 4096 / 1e6
    return (
        len(os.listdir("/proc/self/fd")),
        sorted(n for n in os.listdir("/dev/shm") if not n.startswith("sem.")),
        len(children),
        resident,
    )


def _parent(process):
    try:
        with open(f"/proc/{process}/stat") as file:
            return int(file.read().rpartition(")")[2].split()[1])
    except (OSError, ValueError):
        return None


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2, 5])
def test_workers_make_the_same_batches_again(tmp_path, workers):
    """Each image once an epoch; the same again; and what a batch holds does not depend on who keeps it how long."""
    write(tmp_path, count=60)
    kept = [[b for b, _ in zip(train(split(tmp_path, workers=workers), 6), range(20), strict=False)] for _ in range(2)]
    for first, second in zip(*kept, strict=True):
        assert all(torch.equal(first[k], second[k]) for k in first)
    for epoch in (kept[0][:10], kept[0][10:]):
        values = torch.cat([b["labels"] for b in epoch]).bincount(minlength=10)
        assert values.tolist() == [6] * 10


def test_memory_is_used_again_once_its_tensors_are_gone(tmp_path):
    write(tmp_path, count=60)
    batches = train(split(tmp_path, workers=2), 6)
    addresses = {next(batches)["images"].data_ptr() for _ in range(60)}
    assert len(addresses) <= 2 * 2 + 2
    held = [next(batches) for _ in range(30)]
    assert len({b["images"].data_ptr() for b in held}) == 30
    copies = [b["images"].clone() for b in held]
    batches.close()
    # What was handed out outlives the workers.
    assert all(torch.equal(b["images"], copy) for b, copy in zip(held, copies, strict=True))


def test_a_dead_worker_ends_the_run_and_is_named(tmp_path):
    write(tmp_path, count=60)
    batches = train(split(tmp_path, workers=2), 6)
    next(batches)
    os.kill(batches.pids()[1], signal.SIGKILL)
    with pytest.raises(DataError, match=r"data worker 1 .* was killed by SIGKILL; was memory short"):
        [next(batches) for _ in range(20)]
    assert list(batches) == []


def test_a_bug_in_a_worker_comes_with_its_traceback(tmp_path, monkeypatch):
    write(tmp_path, count=60)
    broken = split(tmp_path, workers=1)
    object.__setattr__(broken, "classes", None)
    with pytest.raises(RuntimeError, match=r"data worker 0 failed:(.|\n)*TypeError"):
        next(train(broken, 6))


@pytest.mark.slow
def test_twenty_epochs_leave_nothing_behind(tmp_path):
    """Memory, file descriptors, shared memory and processes are after 20 epochs what they were after two."""
    write(tmp_path, count=200)
    data = split(tmp_path, workers=2, shuffle_window=64)

    def epochs(count):
        batches = train(data, 20)
        for _ in range(10 * count):
            next(batches)
        batches.close()
        del batches
        for _ in range(count):
            assert sum(b["mask"].sum() for b in data.eval_batches(Place(0, 1), 30)) == 200

    epochs(2)
    before = usage()
    epochs(20)
    after = usage()
    assert after[0] <= before[0]  # less, where garbage of earlier tests went meanwhile
    assert after[1] == before[1]
    assert after[2] <= before[2]
    assert after[3] < before[3] + 20


def test_a_host_fan_that_is_left_ends_its_workers(tmp_path):
    write(tmp_path, count=60)
    batches = train(split(tmp_path, workers=2), 6)
    pids = batches.pids()
    fan = HostFan(batches, replicas=2)
    shares = [iter(fan.share(i)) for i in range(2)]
    assert [len(next(s)["images"]) for s in shares] == [3, 3]
    for i in range(2):
        fan.share(i).close()
    fan.join()
    assert not any(os.path.exists(f"/proc/{pid}") for pid in pids)


_READER = """
import signal, sys
from pathlib import Path
from tests.shards import split, train
if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)  # what a shell starts in the background ignores it
    batches = train(split(Path(sys.argv[1]), workers=2), 6)
    next(batches)
    print(*batches.pids(), flush=True)
    sys.stdin.read()
"""


@pytest.mark.slow
@pytest.mark.parametrize("stop", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_workers_do_not_outlive_the_training_process(tmp_path, stop):
    write(tmp_path, count=60)
    command = [sys.executable, "-c", _READER, str(tmp_path)]
    with subprocess.Popen(command, stdin=PIPE, stdout=PIPE, stderr=subprocess.DEVNULL) as reader:
        pids = reader.stdout.readline().decode().split()
        assert len(pids) == 2
        reader.send_signal(stop)
        assert reader.wait(20) != 0
    wait_for(lambda: not any(os.path.exists(f"/proc/{pid}") for pid in pids))
