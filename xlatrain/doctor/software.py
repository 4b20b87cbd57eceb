"""Versions, by what is installed: nothing is imported, which would take seconds and, on a TPU, ask the network."""

from __future__ import annotations

import platform
from collections.abc import Iterator

from xlatrain.config.schema import Config
from xlatrain.doctor.devices import tpu_chips
from xlatrain.doctor.finding import FAILED, NOTE, OK, Finding, Machine, failed
from xlatrain.preflight.versions import installed, pinned, version_faults
from xlatrain.version import VERSION

_TOLD = ("torch", "torch_xla", "libtpu", "jax", "jaxlib", "timm")


def check_versions(machine: Machine, config: Config) -> Iterator[Finding]:
    """What is installed, and whether it goes together."""
    found = {name: version for name in _TOLD if (version := installed(name))}
    told = {"xlatrain": VERSION, "python": platform.python_version(), **found}
    yield Finding(OK, ", ".join(f"{name} {version}" for name, version in told.items()))
    yield from map(failed, version_faults())
    pin, libtpu = pinned("libtpu", "torch_xla"), found.get("libtpu")
    if pin and libtpu != pin and (libtpu or tpu_chips(machine)):
        status = FAILED if tpu_chips(machine) else NOTE
        there = f"libtpu {libtpu} is installed" if libtpu else "libtpu is not installed"
        text = f"torch_xla {found.get('torch_xla')} takes libtpu {pin}; {there}"
        yield Finding(status, text, f"pip install libtpu=={pin}")
    if (other := installed("xlatrain")) and other != VERSION:
        text = f"xlatrain {other} is installed, and {VERSION} runs: another folder comes first on the path"
        yield Finding(NOTE, text, "pip install --force-reinstall xlatrain")
