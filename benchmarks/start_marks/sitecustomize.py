"""Writes down when a run comes where. Python imports it first of all, as benchmarks/start.py puts its folder on the
path; of a version of xlatrain that has not one of these functions, that mark is missing."""

from __future__ import annotations

import functools
import importlib.abc
import importlib.util
import os
import sys
import time
from collections.abc import Callable
from types import ModuleType
from typing import Any

MARKS = os.environ.get("XLATRAIN_MARKS")  # the file; each line is a time, a process and a name
_once: set[tuple[int, str]] = set()


def mark(name: str, seconds: float = 0.0) -> None:
    """Write a line, in each process once. seconds: added to it, of what takes place several times."""
    if seconds or (os.getpid(), name) not in _once:
        _once.add((os.getpid(), name))
        with open(MARKS, "a") as file:
            file.write(f"{time.time():.6f} {os.getpid()} {name} {seconds:.6f}\n")


def around(before: str = "", after: str = "", of: str | None = None) -> Callable[[Callable], Callable]:
    """A function that marks its beginning, or its end. of: only as the method of what has this name."""

    def wrap(function: Callable) -> Callable:
        @functools.wraps(function)
        def marked(*args: Any, **named: Any) -> Any:
            wanted = of is None or args[0].name == of
            if wanted and before:
                mark(before)
            started = time.perf_counter()
            result = function(*args, **named)
            if wanted and after:
                mark(after)
            if not (before or after):
                mark("compile", time.perf_counter() - started)
            return result

        return marked

    return wrap


def _patch(owner: Any, name: str, wrap: Callable[[Callable], Callable]) -> None:
    if hasattr(owner, name):
        setattr(owner, name, wrap(getattr(owner, name)))


def _of_check(module: ModuleType) -> None:
    mark("imported")
    _patch(module, "check_config", around(after="checked"))


def _of_launch(module: ModuleType) -> None:
    _patch(module, "launch", around("launch"))


def _of_train(module: ModuleType) -> None:
    _patch(module, "train_replica", around("replica"))
    _patch(module.Trainer, "_begin", around(after="state"))
    _patch(module.Trainer, "_read", around(after="first step"))
    _patch(module.CapturedStep, "_capture", around("capture", "captured", "train step"))


def _of_replica(module: ModuleType) -> None:
    _patch(module.C, "_xla_warm_up_cache", around())


def _of_jax(module: ModuleType) -> None:
    _patch(module, "ProcessProgram", around())


_AFTER = {
    "xlatrain.preflight.check": _of_check,
    "xlatrain.xla.launch": _of_launch,
    "xlatrain.engine.train": _of_train,
    "xlatrain.xla.torch_xla_replica": _of_replica,
    "xlatrain.xla.jax_replica": _of_jax,
}


class _Finder(importlib.abc.MetaPathFinder):
    """Has a module changed as soon as it is imported."""

    def find_spec(self, name: str, path: object, target: object = None) -> Any:
        act = _AFTER.pop(name, None)
        if act is None:
            return None
        spec = importlib.util.find_spec(name)
        load = spec.loader.exec_module

        def exec_module(module: ModuleType) -> None:
            load(module)
            act(module)

        spec.loader.exec_module = exec_module
        return spec


if MARKS:
    sys.meta_path.insert(0, _Finder())
