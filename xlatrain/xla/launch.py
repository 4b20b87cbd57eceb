"""Start the replicas through xmp.spawn, watch over them, and end them all when one fails.

The parent process never touches an XLA device: it sets the environment, spawns, waits. A replica that raises writes its
traceback to a file that the parent prints last, and ends its process at once: the others, waiting in a collective for a
replica that is gone, would otherwise sit there until XLA aborts and hides the cause.
"""

from __future__ import annotations

import contextlib
import importlib
import logging
import multiprocessing
import os
import pickle
import signal
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Iterator, Mapping
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

from xlatrain.errors import SPOKEN, ReplicaError
from xlatrain.words import counted
from xlatrain.xla.temporary import clear_left_behind, temporary_files

_FAILURE, _RESULT, _GROUP = "failure.txt", "result.pickle", "group-"


def launch(
    target: str,
    *args: Any,
    platform: str = "cpu",
    replicas: int = 1,
    environment: Mapping[str, str] | None = None,
) -> Any:
    """Run the function `target`, "package.module:name", as f(replica, *args) on every replica; return what the first
    one returned. It is named, not passed, so that the parent need not import what touches a device.

    platform: "cpu" runs `replicas` replicas as threads of one child process, with real collectives between them; "tpu"
    uses all chips of this host, one process per chip. args must be picklable. environment: further variables for the
    children.
    Raises ReplicaError, with the traceback of the replica that failed first, or the one line that says it all, within
    seconds of the failure.
    """
    with (
        temporary_files() as folder,
        tempfile.TemporaryDirectory(prefix="xlatrain-", dir=folder) as channel,
        _environment(platform, replicas, environment or {}),
        _signals() as received,
    ):
        from torch_xla.distributed import xla_multiprocessing as xmp  # reads the environment, so not before

        if multiprocessing.get_start_method(allow_none=True) not in (None, *multiprocessing.get_all_start_methods()):
            # A worker of joblib hands its own method, loky, to its children, who do not know it.
            multiprocessing.set_start_method("spawn", force=True)
        problem: BaseException | None = None
        try:
            if not received:
                xmp.spawn(_replica_main, args=(target, args, channel, os.getpid(), replicas))
        except (BrokenProcessPool, KeyboardInterrupt) as error:
            problem = error
        finally:
            _end_groups(Path(channel))
        if received:
            raise ReplicaError(f"stopped by signal {received[0]}", 128 + received[0])
        if problem:
            raise ReplicaError(_failure_report(Path(channel), problem))
        return pickle.loads((Path(channel) / _RESULT).read_bytes())


def _replica_main(index: int, target: str, args: tuple, channel: str, parent: int, expected: int) -> None:
    """What each replica's thread runs."""
    from xlatrain.xla import runtime

    ordinal = index
    _lead_group(Path(channel))
    try:
        replica = runtime.this_replica()
        if replica.world_size != expected:
            raise RuntimeError(
                f"cluster.replicas={expected}, but PyTorch/XLA sees {counted(replica.world_size, 'device')}"
            )
        if replica.local_ordinal == 0:
            threading.Thread(target=_die_with, args=(parent, Path(channel)), daemon=True).start()
        module, _, name = target.partition(":")
        result = getattr(importlib.import_module(module), name)(replica, *args)
        if replica.is_first:
            _write_once(Path(channel) / _RESULT, pickle.dumps(result))
        replica.barrier()  # nobody leaves while another may still fail
    except BaseException as error:
        words = f" {error}" if isinstance(error, SPOKEN) else f"\n{traceback.format_exc()}"
        report = f"replica {ordinal} failed:{words}".encode(errors="backslashreplace")
        first = _write_once(Path(channel) / _FAILURE, report)
        if not first:
            time.sleep(5)  # another replica failed first and ends the process
        logging.shutdown()
        sys.stdout.flush()
        os._exit(1)


def _write_once(path: Path, content: bytes) -> bool:
    """Publish a file whole, if nobody has yet. True when this call did."""
    draft = path.with_name(f"{path.name}.{os.getpid()}.{threading.get_ident()}")
    draft.write_bytes(content)
    try:
        os.link(draft, path)
    except FileExistsError:
        return False
    return True


def _failure_report(channel: Path, error: BaseException) -> str:
    path = channel / _FAILURE
    if path.exists():
        return path.read_text()
    return (
        f"a process of replicas ended without a Python error ({error}). What it printed last is above. On one CPU "
        "XLA aborts the run when a replica keeps the others waiting in a collective for 10 s: a smaller model, "
        "image or batch, or fewer replicas, shortens the step. A process killed for its memory ends like this too."
    )


def _die_with(parent: int, channel: Path) -> None:
    """End this process when its parent is gone, so that no orphan keeps the devices, nor temporary files stay."""
    while os.getppid() == parent:
        time.sleep(1)
    try:
        clear_left_behind(channel.parent.parent)
    finally:
        os.killpg(os.getpgrp(), signal.SIGKILL)


def _lead_group(channel: Path) -> None:
    """Make this process the head of a group of its own, to which its loader's workers belong: they end with it."""
    if os.getpgrp() != os.getpid():
        os.setpgid(0, 0)
    (channel / f"{_GROUP}{os.getpid()}").touch()


def _end_groups(channel: Path) -> None:
    """Kill what is left of the processes of this run, however they ended."""
    for path in channel.glob(f"{_GROUP}*"):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(int(path.name.removeprefix(_GROUP)), signal.SIGKILL)


@contextlib.contextmanager
def _environment(platform: str, replicas: int, more: Mapping[str, str]) -> Iterator[None]:
    """The environment that the children read when they import torch_xla; the parent's own is put back after."""
    changes = {"PJRT_DEVICE": platform.upper(), **more}
    if platform == "cpu":
        threads = str(max(64, 8 * replicas))
        # torch_xla's executor has as many threads as cores, and a collective that waits holds one of them.
        changes |= {
            "CPU_NUM_DEVICES": str(replicas),
            "XLA_THREAD_POOL_SIZE": threads,
            "PJRT_NPROC": threads,
            "TF_CPP_MIN_LOG_LEVEL": os.environ.get("TF_CPP_MIN_LOG_LEVEL", "1"),
        }
    before = {name: os.environ.get(name) for name in changes}
    os.environ.update(changes)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


@contextlib.contextmanager
def _signals() -> Iterator[list[int]]:
    """On SIGINT or SIGTERM end the children; the pool of processes would wait for them for ever. The killing goes on
    until the run has ended, since a signal may come before the children do."""
    received: list[int] = []
    ended = threading.Event()

    def kill() -> None:
        while not ended.wait(0.1):
            for child in multiprocessing.active_children():
                child.kill()

    def stop(number: int, frame: object) -> None:
        if not received:
            threading.Thread(target=kill, daemon=True).start()
        received.append(number)

    if threading.current_thread() is not threading.main_thread():
        yield received
        return
    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield received
    finally:
        ended.set()
        for number, handler in before.items():
            signal.signal(number, handler)
