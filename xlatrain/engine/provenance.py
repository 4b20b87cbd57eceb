"""Where a run comes from: versions, commit, host and command."""

from __future__ import annotations

import os
import platform
import shlex
import subprocess
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from xlatrain.config.schema import Config
from xlatrain.version import VERSION
from xlatrain.words import counted

_PACKAGE = Path(__file__).resolve().parent.parent
_DISTRIBUTIONS = ("torch", "torch_xla", "timm")
JAX = ("jax", "jaxlib")
PLANNING = (*JAX, "libtpu")


def provenance(command: Sequence[str], more: Sequence[str] = ()) -> dict[str, Any]:
    """What is written beside the results of a command: command, host, machine, versions; from a git checkout also
    commit, and modified: whether package or conf/ differ from it. more: as of versions."""
    commit = _commit()
    found = {"command": shlex.join(command), "host": platform.node(), "machine": _machine()}
    found["versions"] = versions(more)
    return found | ({} if commit is None else {"commit": commit, "modified": _modified()})


def _machine() -> str:
    """The machine that a command is given on: 8 cores, 62 GiB, Linux x86_64."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return f"{counted(os.cpu_count() or 1, 'core')}, {memory:.0f} GiB, {platform.system()} {platform.machine()}"


def versions(more: Sequence[str] = ()) -> dict[str, str]:
    """Of xlatrain, Python and what computes, of `more` distributions where they did. None is imported for it."""
    return {
        "xlatrain": VERSION,
        "python": platform.python_version(),
        **{name: metadata.version(name) for name in (*_DISTRIBUTIONS, *more)},
    }


def used_by(config: Config) -> tuple[str, ...]:
    """The distributions that run a configuration's steps, beside those that trace them."""
    return JAX if config.engine.runtime == "jax" else ()


def _commit() -> str | None:
    """The commit checked out, if the package is part of a repository and not merely installed inside one."""
    if not _git("ls-files", "--error-unmatch", __file__):
        return None
    return _git("rev-parse", "HEAD") or None


def _modified() -> bool:
    return bool(_git("status", "--porcelain", "--", str(_PACKAGE), str(_PACKAGE.parent / "conf")))


def _git(*arguments: str) -> str:
    """What git says; nothing where there is no git or it fails."""
    try:
        done = subprocess.run(["git", *arguments], cwd=_PACKAGE, capture_output=True, text=True, timeout=30, check=True)
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip()
