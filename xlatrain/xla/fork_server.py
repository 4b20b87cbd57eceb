"""A process that imports what replicas need while this one still checks, and of which theirs are forked.

It is multiprocessing's fork server. A process that is spawned imports torch, torch_xla and timm anew, after all else;
one that is forked has them, and so have those of each later launch. What is forked must be what would be spawned: the
server starts no thread and touches no device, and where what a process inherits is no longer what the server had from
this one (variables that are read at an import, where output goes, which cores), processes are spawned.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import importlib
import os
import signal
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing import Pipe, current_process, forkserver, get_context, set_forkserver_preload
from multiprocessing.connection import Connection
from typing import Any, TypeVar

from xlatrain.signals import ask_for_at_end_of_parent
from xlatrain.xla.temporary import temporary_files

T = TypeVar("T")

# What torch_xla reads only when a device is touched, and Python when it makes a temporary file.
_LATE = ("PJRT_DEVICE", "CPU_NUM_DEVICES", "XLA_THREAD_POOL_SIZE", "PJRT_NPROC", "TMPDIR")
_AT_IMPORT = {"TF_CPP_MIN_LOG_LEVEL": "1"}  # which torch_xla sets, if nobody has
_SIGNALS = (signal.SIGINT, signal.SIGTERM)


@dataclass(frozen=True)
class _Inherited:
    """What a process takes over from the one that starts it, and that matters to what it imports."""

    environment: dict[str, str]
    outputs: tuple[tuple[int, int] | None, ...]
    cores: frozenset[int]


_begun: list[tuple[int, _Inherited]] = []  # the server that this process has begun


def prepare(module: str) -> None:
    """Begin a server that imports `module`, whose first act is to call serve_only_children(). Returns at once. Without
    effect in a process that has one already, be it for something else."""
    if _begun or _server_pid() is not None or current_process().daemon or not hasattr(os, "sched_getaffinity"):
        return
    set_forkserver_preload([module])
    # A signal to all processes of the command is not the server's, not while it begins either.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    try:
        with temporary_files():  # what is imported may leave some
            forkserver.ensure_running()
    except OSError:  # no memory, no more processes: then nothing is prepared
        return
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    _begun.append((_server_pid(), _inherited()))
    atexit.register(_end, os.getpid())


def is_fit() -> bool:
    """Whether a process forked by the server is what one would be that is spawned now, once it has `late()`."""
    return _begun == [(_server_pid(), _inherited())] and _is_alive()


def late() -> dict[str, str]:
    """The variables that a process forked now has to be told, for `arrive`."""
    return {name: os.environ[name] for name in _LATE if name in os.environ}


def arrive(variables: Mapping[str, str]) -> None:
    """In the main thread of a process that was forked: be as if it had been spawned. Nothing in one that was."""
    if not variables:
        return
    os.environ.update(variables)
    tempfile.tempdir = None  # of TMPDIR
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


def call(function: Callable[..., T], *args: Any, told: type[Exception]) -> T:
    """What a function of this name makes of its arguments, in a process that the server forks: so that what it imports
    need not be imported here. Raises what it raises of the type `told`; whatever else goes wrong there is seen here, of
    the same call."""
    if is_fit():
        receive, send = Pipe(duplex=False)
        context = get_context("forkserver")
        process = context.Process(target=_answer, args=(send, dict(os.environ), function, args, told), daemon=True)
        process.start()
        send.close()
        try:
            raised, what = receive.recv()
        except EOFError:
            pass
        else:
            if raised:
                raise what
            return what
        finally:
            process.kill()
            process.join()
    return function(*args)


def _answer(
    send: Connection, environment: Mapping[str, str], function: Callable, args: Sequence, told: type[Exception]
) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # of Ctrl-C its parent makes what is to be made
    os.environ.clear()
    os.environ.update(environment)
    with contextlib.suppress(Exception):
        try:
            answer = False, function(*args)
        except told as error:
            answer = True, error
        send.send(answer)


def serve_only_children() -> None:
    """In the server, before all else: what signals mean is for this process's children to say, and what lies in the
    folder of the command hides no package."""
    ask_for_at_end_of_parent(signal.SIGKILL)  # also in the midst of an import, which takes seconds
    for number in _SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
    sys.path[:] = [place for place in sys.path if place]


def import_ahead(*modules: str) -> None:
    """In the server: import what its children will need. What fails will fail there too, and be said."""
    begun_by = os.getppid()
    os.environ.setdefault("PJRT_DEVICE", "CPU")  # torch_xla would say that it takes it; its children are told
    gc.disable()  # a million objects that stay: to look for garbage among them takes a seventh of the time
    for name in modules:
        if os.getppid() != begun_by:  # who would have asked for children is gone
            os._exit(0)
        with contextlib.suppress(Exception):
            importlib.import_module(name)
    gc.freeze()
    gc.enable()


def _inherited() -> _Inherited:
    environment = {**_AT_IMPORT, **os.environ}
    for name in _LATE:
        environment.pop(name, None)
    return _Inherited(environment, tuple(map(_file, (1, 2))), frozenset(os.sched_getaffinity(0)))


def _file(number: int) -> tuple[int, int] | None:
    try:
        found = os.fstat(number)
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _server_pid() -> int | None:
    return forkserver._forkserver._forkserver_pid


def _is_alive() -> bool:
    """Whether it has not ended; where it has, that is left for multiprocessing to see."""
    try:
        return os.waitid(os.P_PID, _server_pid(), os.WEXITED | os.WNOHANG | os.WNOWAIT) is None
    except ChildProcessError:  # of who has forked this process
        return False


def _end(owner: int) -> None:
    """End the server, which may be in the midst of its imports. owner: the process that began it."""
    if os.getpid() == owner and (pid := _server_pid()) is not None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
