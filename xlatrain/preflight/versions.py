"""Packages that do not go together, with each other or this Python: none is imported for it."""

from __future__ import annotations

import ctypes
import importlib.metadata
import re
import sys

from xlatrain.errors import Fault

_LEAST = {"timm": (1, 0, 20)}  # as pyproject.toml has it


def installed(name: str) -> str | None:
    """The version of a distribution; None where it is not installed."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def version_faults(jax_too: bool = True) -> list[Fault]:
    """What is missing, too old, or of another series than what it is built for. jax_too: also jax and jaxlib, which a
    run of torch_xla does without (runtime.py asks more of them where one does not)."""
    torch, torch_xla, jax, jaxlib = map(installed, ("torch", "torch_xla", "jax", "jaxlib"))
    faults = []
    for name, version in (("torch", torch), ("torch_xla", torch_xla), ("timm", installed("timm"))):
        if version is None:
            faults.append(Fault(name, "is not installed", "pip install xlatrain"))
    if torch and torch_xla and _series(torch) != _series(torch_xla):
        problem = f"{torch_xla} is built for torch {_series(torch_xla)}; {torch} is installed"
        cure = f"pip install 'torch=={_series(torch_xla)}.*' 'torch_xla=={_public(torch_xla)}'"
        faults.append(Fault("torch_xla", problem, cure))
    if torch_xla and (lacking := _lacking_library()):
        problem = f"is linked with {lacking}, which this Python does not bring"
        cure = f"apt-get install {lacking.partition('.so')[0]}, or take a Python built with --enable-shared"
        faults.append(Fault("torch_xla", problem, cure))
    if jax_too and jax and _public(jax) != _public(jaxlib or ""):
        there = f"jaxlib {jaxlib} is installed" if jaxlib else "jaxlib is not installed"
        cure = f"pip install 'jax=={_public(jax)}' 'jaxlib=={_public(jax)}'"
        faults.append(Fault("jax", f"{jax} takes the jaxlib of its own version; {there}", cure))
    for name, least in _LEAST.items():
        if (version := installed(name)) and _numbers(version) < least:
            text = ".".join(map(str, least))
            problem = f"{version} is too old; {text} or newer is needed"
            faults.append(Fault(name, problem, f"pip install '{name}>={text}'"))
    return faults


def pinned(name: str, by: str) -> str | None:
    """The version of `name` that a distribution asks for, in any of its extras; None where it asks for none."""
    try:
        wanted = importlib.metadata.requires(by) or []
    except importlib.metadata.PackageNotFoundError:
        return None
    return next((found[1] for text in wanted if (found := re.match(rf"{name}==([\w.]+)\s*(;|$)", text))), None)


def _lacking_library() -> str | None:
    """The library of Python itself, that torch_xla's own is linked with, where there is none: Debian's python3 does
    without. It would be told only by a replica, as the ImportError of a file of torch_xla."""
    name = f"libpython{sys.version_info[0]}.{sys.version_info[1]}.so.1.0"
    try:
        ctypes.CDLL(name)
    except OSError:
        return name
    return None


def _series(version: str) -> str:
    return ".".join(version.split(".")[:2])


def _public(version: str) -> str:
    """Without what a builder appends: 2.9.1+cpu."""
    return version.partition("+")[0]


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", _public(version))[:3])
