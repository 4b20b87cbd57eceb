"""Variables that were left behind, or that do something else than they seem to, and the cores there are."""

from __future__ import annotations

import os
from collections.abc import Iterator

from xlatrain.config.schema import Config
from xlatrain.credentials import masked
from xlatrain.doctor.devices import tpu_chips
from xlatrain.doctor.finding import FAILED, NOTE, OK, Finding, Machine, failed
from xlatrain.doctor.metadata import skips_server
from xlatrain.preflight.environment import environment_faults
from xlatrain.words import counted

# torch_xla 2.9.0 sets these where they are not set (_internal/tpu.py): what is there already wins over the server.
_OF_A_PROCESS = ("TPU_PROCESS_ADDRESSES", "TPU_PROCESS_PORT", "TPU_VISIBLE_CHIPS", "TPU_VISIBLE_DEVICES")
_OF_A_SLICE = ("TPU_PROCESS_BOUNDS", "TPU_CHIPS_PER_PROCESS_BOUNDS", "CLOUD_TPU_TASK_ID")
_SET_BY_US = ("PJRT_DEVICE", "CPU_NUM_DEVICES", "XLA_THREAD_POOL_SIZE", "PJRT_NPROC")
_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
_KNOWN = ("XLA_FLAGS", "LIBTPU_INIT_ARGS")  # which are users' own


def check_variables(machine: Machine, config: Config) -> Iterator[Finding]:
    """Variables of TPU, PJRT, XLA and threads."""
    found = machine.variables
    on_tpu = bool(tpu_chips(machine)) or config.cluster.platform == "tpu"
    stale = _OF_A_PROCESS + (() if skips_server(machine) else _OF_A_SLICE)
    for name in (n for n in stale if n in found):
        text = f"{name}={found[name]} wins over what the metadata server says of this slice"
        yield Finding(FAILED if on_tpu else NOTE, text if on_tpu else f"{text}; there is no TPU here", f"unset {name}")
    yield from map(failed, environment_faults(found))
    if "XLA_COMPILE_CACHE_PATH" in found:
        text = "XLA_COMPILE_CACHE_PATH does nothing; what torch_xla reads is XLA_PERSISTENT_CACHE_PATH"
        yield Finding(FAILED, text, "unset XLA_COMPILE_CACHE_PATH")
    if on_tpu and "XLA_PERSISTENT_CACHE_PATH" in found:
        text = "XLA_PERSISTENT_CACHE_PATH: torch_xla 2.9.0 reads no program back on a TPU (pytorch/xla#9094)"
        yield Finding(FAILED, text, "unset XLA_PERSISTENT_CACHE_PATH")
    for name in (n for n in _SET_BY_US if n in found):
        yield Finding(NOTE, f"{name}={found[name]} has no effect: xlatrain sets it for each run", f"unset {name}")
    for name in (n for n in _KNOWN if found.get(n, "").strip()):
        yield Finding(NOTE, f"{name}={masked(found[name])} holds for each run of this shell", f"unset {name}")
    if found.get("PYTHONDONTWRITEBYTECODE"):
        text = "PYTHONDONTWRITEBYTECODE is set: each process of a run compiles torch's files anew"
        yield Finding(NOTE, text, "unset PYTHONDONTWRITEBYTECODE")


def check_threads(machine: Machine, config: Config) -> Iterator[Finding]:
    """Cores, and what limits their use."""
    cores = len(os.sched_getaffinity(0))
    for name in (n for n in _THREADS if n in machine.variables):
        text = machine.variables[name]
        if not text.isdigit() or not int(text):
            yield Finding(FAILED, f"{name}={text} is no number of threads", f"unset {name}")
        elif int(text) > cores:
            text = f"{name}={text} on {counted(cores, 'core')}: they wait for each other"
            yield Finding(FAILED, text, f"unset {name}")
        else:
            yield Finding(NOTE, f"{name}={text} of {counted(cores, 'core')}", f"unset {name}")
    allowed = _quota(machine)
    workers = getattr(config.data, "workers", 0)
    if allowed is not None and allowed < cores:
        text = f"{counted(cores, 'core')} are seen, but this container may use {allowed:g}"
        # null asks the system, which says nothing of the container's limit.
        wrong = config.cluster.platform == "tpu" and workers is None
        yield Finding(FAILED if wrong else NOTE, text, f"data.workers={max(1, int(allowed) - 1)}")
    else:
        yield Finding(OK, counted(cores, "core"))


def _quota(machine: Machine) -> float | None:
    """Cores that a control group allows; None where it says nothing."""
    try:
        quota, period = machine.path("/sys/fs/cgroup/cpu.max").read_text().split()
        return int(quota) / int(period)
    except (OSError, ValueError, ZeroDivisionError):
        return None
