"""A machine that is a tree of files."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from xlatrain.config.compose import compose_config
from xlatrain.doctor.finding import Machine


@dataclass
class Fake:
    """Builds under `root` what a check looks at."""

    root: Path

    def write(self, absolute: str, text: str = "") -> Path:
        path = self.root / absolute.lstrip("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    def pci(self, vendor: str, device: str, count: int = 1) -> None:
        there = len(list((self.root / "sys/bus/pci/devices").glob("*")))
        for i in range(there, there + count):
            self.write(f"/sys/bus/pci/devices/0000:00:{i:02x}.0/vendor", f"{vendor}\n")
            self.write(f"/sys/bus/pci/devices/0000:00:{i:02x}.0/device", f"{device}\n")

    def tpu(self, count: int = 4, device: str = "0x0063", files: str = "/dev/vfio/{}") -> None:
        self.pci("0x1ae0", device, count)
        for i in range(count):
            self.write(files.format(i))

    def process(self, pid: int, command: str, *held: str) -> None:
        self.write(f"/proc/{pid}/cmdline", command.replace(" ", "\0"))
        folder = self.root / f"proc/{pid}/fd"
        folder.mkdir()
        for number, name in enumerate(("/dev/null", *held)):
            os.symlink(name, folder / str(number))

    def machine(self, variables: Mapping[str, str] = {}, **more: str) -> Machine:
        return Machine(self.root, variables, **more)


@pytest.fixture
def fake(tmp_path):
    (tmp_path / "machine/sys/bus/pci/devices").mkdir(parents=True)
    return Fake(tmp_path / "machine")


@pytest.fixture
def examined():
    """What a check finds, as (status, text, cure)."""

    def examine(check, machine, *overrides):
        config, _ = compose_config(overrides)
        return [(f.status, f.text, f.cure) for f in check(machine, config)]

    return examine
