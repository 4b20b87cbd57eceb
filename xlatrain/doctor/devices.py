"""Devices of the machine, found without opening them: a TPU that is opened is held."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator

from xlatrain.config.schema import Config
from xlatrain.doctor.finding import FAILED, NOTE, OK, UNKNOWN, Finding, Machine
from xlatrain.words import counted

_GOOGLE, _NVIDIA = "0x1ae0", "0x10de"
# By which torch_xla 2.9.0 (_internal/tpu.py) counts chips; the names are JAX's (_src/hardware_utils.py).
_CHIPS = {
    "0x0027": "v2 or v3",
    "0x0056": "test chip",
    "0x005e": "v4",
    "0x0062": "v5p",
    "0x0063": "v5e",
    "0x006f": "v6e",
    "0x0076": "TPU7x",
}
_PCI = "/sys/bus/pci/devices"
_ON_A_TPU_VM = "gcloud compute tpus tpu-vm ssh NAME --zone ZONE, and there again; or take cluster=cpu"


def tpu_chips(machine: Machine) -> list[str]:
    """The kind of each TPU chip on PCI."""
    return [_CHIPS[device] for vendor, device in _pci(machine) if vendor == _GOOGLE and device in _CHIPS]


def tpu_files(machine: Machine) -> list[str]:
    """The device files by which chips are opened: of v2 to v4 /dev/accelN, of later ones /dev/vfio/N."""
    return machine.names("/dev/accel*") + machine.names("/dev/vfio/[0-9]*")


def check_tpu(machine: Machine, config: Config) -> Iterator[Finding]:
    """Chips, their device files, and whether this user may open them."""
    chips, files, wanted = tpu_chips(machine), tpu_files(machine), config.cluster.platform == "tpu"
    if not machine.path(_PCI).is_dir():
        yield Finding(UNKNOWN, f"there is no {_PCI}, by which torch_xla counts chips")
        return
    if not chips:
        if wanted:
            yield Finding(FAILED, f"cluster={config.cluster.name} wants a TPU, and none is on PCI", _ON_A_TPU_VM)
        else:
            yield Finding(OK, "none here, and none is asked for")
        return
    kinds = " and ".join(f"{count} of {kind}" for kind, count in Counter(chips).items())
    if not files:
        text = f"{counted(len(chips), 'chip')} on PCI, but neither /dev/accel* nor /dev/vfio/N, as in a container"
        yield Finding(FAILED, text, "docker run --privileged --net=host ...")
    elif closed := [name for name in files if not os.access(machine.path(name), os.R_OK | os.W_OK)]:
        yield Finding(FAILED, f"this user may not open {', '.join(closed)}", f"sudo chmod a+rw {' '.join(closed)}")
    else:
        yield Finding(OK, f"{counted(len(chips), 'chip')} ({kinds}): {', '.join(files)}")


def check_gpu(machine: Machine, config: Config) -> Iterator[Finding]:
    """NVIDIA's cards and device files."""
    cards = sum(vendor == _NVIDIA for vendor, _ in _pci(machine))
    files = machine.names("/dev/nvidia[0-9]*")
    if files:
        yield Finding(OK, f"{counted(len(files), 'NVIDIA GPU')}: {', '.join(files)}")
    elif config.cluster.platform == "gpu":
        cure = "sudo modprobe nvidia; in a container: docker run --gpus all ..."
        yield Finding(FAILED, f"{cards or 'no'} NVIDIA devices on PCI, and no /dev/nvidia0", cure)
    elif cards:
        yield Finding(NOTE, "an NVIDIA card on PCI without /dev/nvidia0: no driver, or a container without it")
    else:
        yield Finding(OK, "none here, and none is asked for")


def _pci(machine: Machine) -> list[tuple[str, str]]:
    """Vendor and device of what is on PCI."""
    found = []
    for folder in sorted(machine.path(_PCI).glob("*")):
        try:
            found.append(((folder / "vendor").read_text().strip(), (folder / "device").read_text().strip()))
        except OSError:
            continue
    return found
