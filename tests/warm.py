"""Processes of replicas that begin with torch, torch_xla and jax imported: four seconds less for each launch of the
tests. A server has imported them and no more, and forks when asked; what is forked takes over the environment and the
output of who asked, and is in all else the process that `launch` would start."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
from collections.abc import Iterator
from multiprocessing import context, forkserver, reduction

_IMPORTED = ["tests.warm_imports"]


class _WarmProcess(context.ForkServerProcess):
    def __getstate__(self) -> dict:
        output = [reduction.DupFd(number) for number in (1, 2)]
        return {**self.__dict__, "environment": dict(os.environ), "output": output}

    def run(self) -> None:
        os.environ.clear()
        os.environ.update(self.environment)
        for number, copy in enumerate(self.output, 1):
            os.dup2(copy.detach(), number)
        forkserver._forkserver.__init__()  # workers of its loader are children of its own
        super().run()


class _WarmContext(context.ForkServerContext):
    Process = _WarmProcess

    def get_start_method(self, allow_none: bool = False) -> str:
        return "spawn"


def start_server() -> None:
    """From here on, what is spawned is forked by a warm server, which ends with this process."""
    multiprocessing.get_context("forkserver").set_forkserver_preload(_IMPORTED)
    context._concrete_contexts["spawn"] = _WarmContext()


@contextlib.contextmanager
def cold() -> Iterator[None]:
    """Processes start as those of users do."""
    warm, context._concrete_contexts["spawn"] = context._concrete_contexts["spawn"], context.SpawnContext()
    try:
        yield
    finally:
        context._concrete_contexts["spawn"] = warm
