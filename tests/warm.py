"""Processes that begin with torch, torch_xla and jax imported: four seconds less for each launch of the tests.

A server has imported them and no more, and forks when asked. What is forked takes over the environment and the output
of who asked, and is in all else the process that `launch`, or the command line, would start.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import runpy
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from multiprocessing import context, forkserver, reduction
from pathlib import Path

from xlatrain.xla import fork_server

_COLD = context._concrete_contexts["spawn"]
_server = forkserver._forkserver


class _WarmProcess(context.ForkServerProcess):
    """asks: it starts warm processes too, of the same server."""

    asks = False

    def __getstate__(self) -> dict:
        output = [reduction.DupFd(number) for number in (1, 2)]
        return {**self.__dict__, "environment": dict(os.environ), "output": output, "server": _address()}

    def run(self) -> None:
        os.environ.clear()
        os.environ.update(self.environment)
        for number, copy in enumerate(self.output, 1):
            os.dup2(copy.detach(), number)
        tempfile.tempdir = None  # of this environment, not of the server's
        if self.asks:
            _server._forkserver_address, _server.ensure_running = self.server, lambda: None
            context._concrete_contexts["spawn"] = _WarmContext()
        else:
            _server.__init__()  # workers of its loader are children of its own
        super().run()


class _WarmContext(context.ForkServerContext):
    Process = _WarmProcess

    def get_start_method(self, allow_none: bool = False) -> str:
        return "spawn"


def prepare_nothing() -> None:
    """A command that runs in this process begins no server of its own, which would import torch once more."""
    fork_server.prepare = lambda module: None


def start_server() -> None:
    """From here on, what is spawned is forked by a warm server, which ends with this process; so are the workers that
    this process itself has read its data, for which the server has more than they ask for."""
    multiprocessing.get_context("forkserver").set_forkserver_preload(["tests.warm_imports"])
    forkserver.set_forkserver_preload = lambda names: None
    context._concrete_contexts["spawn"] = _WarmContext()


@contextlib.contextmanager
def cold() -> Iterator[None]:
    """Processes start as those of users do."""
    warm, context._concrete_contexts["spawn"] = context._concrete_contexts["spawn"], _COLD
    try:
        yield
    finally:
        context._concrete_contexts["spawn"] = warm


@dataclass
class Command:
    """A command that runs, or has run."""

    process: _WarmProcess
    folder: Path

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def returncode(self) -> int | None:
        return self.process.exitcode

    @property
    def stdout(self) -> str:
        return self.folder.with_suffix(".out").read_text()

    @property
    def stderr(self) -> str:
        return self.folder.with_suffix(".err").read_text()

    def wait(self, timeout: float = 300) -> Command:
        """Wait for its end. Raises TimeoutError."""
        self.process.join(timeout)
        if self.process.exitcode is None:
            self.process.kill()
            raise TimeoutError(f"{self.stdout}\n{self.stderr}")
        return self


def command(*arguments: str, cwd: Path, environment: Mapping[str, str] | None = None) -> Command:
    """`xlatrain` with these arguments in a process of its own, which has begun. Its output is kept beside the folder
    that it runs in."""
    return _begin(_run_command, arguments, cwd, environment or {})


def program(path: Path) -> Command:
    """A program of Python, run in its folder, which has begun."""
    return _begin(_run_program, (path.name,), path.parent, {})


def _begin(act: Callable, arguments: tuple[str, ...], cwd: Path, environment: Mapping[str, str]) -> Command:
    process = _WarmContext.Process(target=_run, args=(act, arguments, str(cwd), dict(environment)))
    process.asks = True
    process.start()
    return Command(process, cwd)


def _run(act: Callable, arguments: tuple[str, ...], folder: str, environment: dict[str, str]) -> None:
    multiprocessing.current_process()._config.pop("tempdir", None)  # its temporary folder is its own, as a user's is
    for name, number in ((".out", 1), (".err", 2)):
        os.dup2(os.open(Path(folder).with_suffix(name), os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
    os.environ.update(environment)
    tempfile.tempdir = None
    prepare_nothing()
    os.chdir(folder)
    multiprocessing.process.ORIGINAL_DIR = folder  # where its children begin
    act(arguments)


def _run_command(arguments: tuple[str, ...]) -> None:
    sys.argv = ["xlatrain", *arguments]
    from xlatrain.cli.main import main

    sys.exit(main(list(arguments)))


def _run_program(arguments: tuple[str, ...]) -> None:
    sys.argv, sys.path[:0] = list(arguments), [os.getcwd()]
    runpy.run_path(arguments[0], run_name="__main__")


def _address() -> str:
    _server.ensure_running()
    return _server._forkserver_address
