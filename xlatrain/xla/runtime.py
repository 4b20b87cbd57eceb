"""Who am I: a replica, its device, its neighbours in the process, and the waits that are safe between them."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
import torch_xla
import torch_xla.core.xla_model as xm
import torch_xla.runtime as xr

T = TypeVar("T")

# One per process. XLA:CPU keys a collective by its module, so the replicas of a process must share one compiled module:
# the first to take the lock compiles, the others find it in the cache. torch's CPU random generator is shared too, so
# models are built under the same lock. Re-entrant, for a build that captures a step.
PROCESS_LOCK = threading.RLock()

_shared: dict[str, Any] = {}
_planned_world: list[int] = []


@dataclass(frozen=True)
class Replica:
    """One training replica: one device, one thread.

    ordinal: 0 … world_size - 1 over the whole run. local_ordinal: 0 … local_count - 1 among the replicas (threads) of
    this process. process: 0 … processes - 1 over all hosts. platform: "cpu" or "tpu", as in the configuration.
    """

    ordinal: int
    world_size: int
    local_ordinal: int
    local_count: int
    process: int
    processes: int
    device: torch.device
    platform: str

    @property
    def is_first(self) -> bool:
        """True for the one replica that writes files and talks to the console."""
        return self.ordinal == 0

    def shared(self, name: str, build: Callable[[], T]) -> T:
        """Build an object once per process and hand the same one to each of its replicas."""
        with PROCESS_LOCK:
            if name not in _shared:
                _shared[name] = build()
            return _shared[name]

    def unshare(self, name: str) -> None:
        """Forget a shared object; replicas that hold it keep it."""
        with PROCESS_LOCK:
            _shared.pop(name, None)

    def barrier(self) -> None:
        """Wait for all replicas on the host. Needed after anything that one replica does alone for long: XLA:CPU aborts
        the process when a collective waits more than 10 s for a member."""
        if self.local_count > 1:
            self.shared("barrier", lambda: threading.Barrier(self.local_count)).wait()
        if self.processes > 1 and self.local_ordinal == 0:
            xm.rendezvous("xlatrain")
        if self.processes > 1 and self.local_count > 1:
            self.shared("barrier", lambda: threading.Barrier(self.local_count)).wait()

    def wait(self) -> None:
        """Wait until this replica's device has run everything handed to it. Waiting for *all* devices of the process,
        torch_xla's default, deadlocks against the other replicas' threads."""
        xm.wait_device_ops(xm.xla_real_devices([str(self.device)]))


def world_size() -> int:
    """Replicas of the run, or of the run that is being planned."""
    return _planned_world[-1] if _planned_world else xr.world_size()


@contextlib.contextmanager
def planned_world(size: int) -> Iterator[None]:
    """Trace as one of `size` replicas, on a device that is alone. What is traced so can be compiled, not run."""
    _planned_world.append(size)
    try:
        yield
    finally:
        _planned_world.pop()


def this_replica() -> Replica:
    """The replica that the calling thread is. Touches the device: only inside what `launch` runs."""
    # Equal small tensors would otherwise share a buffer, and a step that updates one in place would take it from all.
    torch_xla._XLAC._set_xla_enable_device_data_cache(False)
    local_count = xr.addressable_runtime_device_count()
    ordinal, world_size = xr.global_ordinal(), xr.world_size()
    return Replica(
        ordinal=ordinal,
        world_size=world_size,
        local_ordinal=ordinal % local_count,
        local_count=local_count,
        process=ordinal // local_count,
        processes=world_size // local_count,
        device=torch_xla.device(),
        platform=xr.device_type().lower(),
    )


def to_device(tensors: dict[str, torch.Tensor], device: torch.device) -> dict[str, torch.Tensor]:
    """Copy host tensors to a device, in one transfer. Unlike Tensor.to, which keeps a small tensor on the host until a
    graph wants it, what comes back are device buffers."""
    copies = torch_xla._XLAC._xla_tensors_from_aten(list(tensors.values()), [str(device)] * len(tensors), None)
    return dict(zip(tensors, copies, strict=True))
