"""What a run asks of its runtime: who am I, tensors to my device and back, a step made runnable, waits that are safe.

`torch_xla_replica` and `jax_replica` are the two there are; what is above the seam knows neither.
"""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

if TYPE_CHECKING:
    import torch

T = TypeVar("T")
HostTensors = dict[str, "torch.Tensor"]
# On a device, of whatever kind the runtime has: with shape, dtype and ndim as torch has them, and cpu().
Tensors = dict[str, Any]
Step = Callable[[HostTensors, HostTensors], tuple[HostTensors, HostTensors]]

# One per process. XLA:CPU keys a collective by its module, so the replicas of a process must share one compiled module:
# the first to take the lock compiles, the others find it in the cache. torch's CPU random generator is shared too, so
# models are built under the same lock. Re-entrant, for a build that captures a step.
PROCESS_LOCK = threading.RLock()

_shared: dict[str, Any] = {}
_counting = threading.Lock()
_planned_reads = 0  # of tensors, by Replica.to_host


class Program(Protocol):
    """A step, compiled for inputs of one set of shapes. hlo: as it was traced, a serialized HloModuleProto; None where
    it was not kept."""

    hlo: bytes | None

    def __call__(self, carry: Tensors, inputs: Tensors) -> tuple[Tensors, Tensors]:
        """Run it: the new carry, in the buffers of the old one, and the outputs."""


@dataclass(frozen=True)
class Counts:
    """What should happen rarely, in this process so far. compiles: by the names asked for; other_compiles: the rest.
    cpu_fallbacks: ops that XLA has no lowering for, by name. device_reads: copies from the device to the host."""

    compiles: dict[str, int]
    other_compiles: int
    cpu_fallbacks: dict[str, int]
    device_reads: int


@dataclass(frozen=True)
class Replica(ABC):
    """One training replica: one device, one thread.

    ordinal: 0 … world_size - 1 over the whole run. local_ordinal: 0 … local_count - 1 among the replicas (threads) of
    this process, whose ordinals need not be neighbours. process: 0 … processes - 1 over all hosts. device: as the
    runtime has it. platform: as in the configuration.
    """

    ordinal: int
    world_size: int
    local_ordinal: int
    local_count: int
    process: int
    processes: int
    device: Any
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
        """Wait for all replicas of the run, on the host. Needed after anything that one replica does alone for long:
        XLA:CPU aborts the process when a collective waits too long for a member."""
        self._local_barrier()
        if self.processes > 1:
            self._process_barrier()
            self._local_barrier()

    def _local_barrier(self) -> None:
        if self.local_count > 1:
            self.shared("barrier", lambda: threading.Barrier(self.local_count)).wait()

    def agree(self, value: T) -> T:
        """What the first replica says, on all of them. value: plain where there are
        several processes (xla/message.py). All replicas of a run have to come."""
        if self.processes > 1:
            return self._broadcast(value)
        said = self.shared("said by the first", list)
        if self.is_first:
            said[:] = [value]
        self._local_barrier()
        (agreed,) = said
        self._local_barrier()  # nobody says something else while another still reads
        return agreed

    def to_host(self, tensors: Tensors) -> HostTensors:
        """Copies on the host. Waits for what computes them."""
        global _planned_reads
        with _counting:
            _planned_reads += len(tensors)
        return {name: tensor.cpu() for name, tensor in tensors.items()}

    @abstractmethod
    def to_device(self, tensors: HostTensors) -> Tensors:
        """Copies on this replica's device, in one transfer."""

    @abstractmethod
    def compile(self, step: Step, name: str, carry: Tensors, inputs: Tensors, keep_hlo: bool) -> Program:
        """Trace a step and make it runnable, once for all replicas of the process. Runs nothing; books what was
        compiled to `name`. Raises CaptureError."""

    @abstractmethod
    def wait(self) -> None:
        """Wait until this replica's device has run everything handed to it."""

    @abstractmethod
    def profiled(self, folder: Path) -> AbstractContextManager[None]:
        """Within, what the devices of this process do is captured; then it is written to a folder, as TensorBoard's
        profiler has them. One at a time in a process."""

    @abstractmethod
    def counts(self, *names: str) -> Counts:
        """What happened in this process so far. names: of captured steps."""

    def unplanned(self) -> tuple[int, int]:
        """In this process so far: compiles of what is no captured step, and reads of the device that were not made by
        to_host."""
        read = self.counts().device_reads  # first: a plan that is made after it is no read yet
        return self._unbooked_compiles(), max(0, read - _planned_reads)

    @abstractmethod
    def _unbooked_compiles(self) -> int:
        """Compilations in this process that are not booked to any step."""

    @abstractmethod
    def _process_barrier(self) -> None:
        """Wait for the other processes. Every replica comes here."""

    @abstractmethod
    def _broadcast(self, value: T) -> T:
        """What the first replica says, among processes. Every replica comes here."""
