"""What a checkpoint costs the training loop, and the host's memory, against the ways that torch and torch_xla have.

    python benchmarks/checkpoint.py [--gib 1] [--repeats 3] [--folder DIR] [--json FILE]

A state of four flat float32 tensors on one replica of XLA:CPU is saved by each in turn, all in one process: by xlatrain
(copied tensor by tensor, then written by a thread with checksum and fsync), torch.save of a copy, torch_xla's xm.save,
and async_save of torch.distributed.checkpoint (a process group of one, gloo). `copy` is what any of them must at least
do, the copy from the device alone. loop: seconds until training may go on, all: until the files are there; of xlatrain
until they are on the disk (fsync), which the others leave to the system. memory: the most that the process held beyond
what it held before, in units of the state; its peak counter is reset before each. Medians of the repeats.

Evidence: EVIDENCE
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from xlatrain.files import write_json

NAMES = ("params", "slots/momentum", "ema_params", "slots/second")
Save = Callable[[Path], Callable[[], object]]  # begins, and returns what waits for the end


def measure(replica, gib: float, repeats: int, folder: str) -> dict:
    """Every way in turn, `repeats` times; runs on the replica."""
    import torch

    count = int(gib * 2**30 / 4 / len(NAMES))
    state = replica.to_device({name: torch.randn(count) for name in NAMES})
    replica.wait()
    ways = {"copy": _copy, "xlatrain": _xlatrain, "torch.save": _torch_save, "xm.save": _xm_save, "dcp": _dcp}
    saves = {name: way(replica, state) for name, way in ways.items()}
    rows: dict[str, list[dict[str, float]]] = {name: [] for name in ways}
    for number in range(repeats):
        for name, save in saves.items():
            target = Path(folder) / f"{name}-{number}"
            target.mkdir()
            rows[name].append(_measured(save, target, gib))
            shutil.rmtree(target)
    return {
        name: {key: round(statistics.median(row[key] for row in of), 3) for key in of[0]} for name, of in rows.items()
    }


def _measured(save: Save, target: Path, gib: float) -> dict[str, float]:
    gc.collect()
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")  # the peak is now what is held
    before, started = _status("VmRSS"), time.perf_counter()
    wait = save(target)
    loop = time.perf_counter() - started
    wait()
    whole = time.perf_counter() - started
    return {"loop_s": loop, "all_s": whole, "memory": (_status("VmHWM") - before) / (gib * 2**20)}


def _status(key: str) -> int:
    """KiB of this process."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(key + ":"))
    return int(line.split()[1])


def _copied(replica, state: dict) -> dict:
    """As Snapshot.take of engine/snapshot.py does, where replicas do not differ."""
    copies: dict = {}
    for name, tensor in state.items():
        copies |= replica.to_host({name: tensor})
    return copies


def _copy(replica, state: dict) -> Save:
    def save(target: Path) -> Callable[[], object]:
        _copied(replica, state)
        return lambda: None

    return save


def _xlatrain(replica, state: dict) -> Save:
    from xlatrain.checkpoint.background import Saver
    from xlatrain.checkpoint.keep import Rule
    from xlatrain.checkpoint.store import LocalStore

    def save(target: Path) -> Callable[[], object]:
        saver = Saver(LocalStore(target), Rule(2), say=lambda text: None, warn=print)
        saver.save(1, _copied(replica, state), {}, before=lambda: None)
        return saver.finish

    return save


def _torch_save(replica, state: dict) -> Save:
    import torch

    def save(target: Path) -> Callable[[], object]:
        torch.save({name: tensor.cpu() for name, tensor in state.items()}, target / "state.pt")
        return lambda: None

    return save


def _xm_save(replica, state: dict) -> Save:
    import torch_xla.core.xla_model as xm

    def save(target: Path) -> Callable[[], object]:
        xm.save(state, str(target / "state.pt"))
        return lambda: None

    return save


def _dcp(replica, state: dict) -> Save:
    import torch.distributed as dist
    import torch.distributed.checkpoint as dcp

    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)

    def save(target: Path) -> Callable[[], object]:
        # It copies what lies on a GPU; tensors of XLA have to be brought to the host before.
        return dcp.async_save({name: tensor.cpu() for name, tensor in state.items()}, checkpoint_id=target).result

    return save


def main() -> None:
    from xlatrain.xla.launch import launch

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--gib", type=float, default=1.0, help="size of the state")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--folder", type=Path, help="where to write; the default is a temporary one")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        rows = launch("checkpoint:measure", arguments.gib, arguments.repeats, folder, replicas=1)
    print(f"{arguments.gib:g} GiB, medians of {arguments.repeats}")
    print(f"{'':12} {'loop':>8} {'all':>8} {'memory':>8}")
    for name, row in rows.items():
        print(f"{name:12} {row['loop_s']:6.2f} s {row['all_s']:6.2f} s {row['memory']:7.2f}x")
    if arguments.json:
        write_json(arguments.json, {"gib": arguments.gib, "repeats": arguments.repeats, "rows": rows})


if __name__ == "__main__":
    main()
