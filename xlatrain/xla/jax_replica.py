"""The runtime of JAX: the step is traced by torch_xla on one CPU device, compiled and run by jaxlib's PJRT client.

A process has a thread for each of its devices, and the processes of a run, on one machine or several, have a
coordinator. Of torch_xla nothing runs but the tracing.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import jax
import torch
import torch_xla
from jax._src import distributed

from xlatrain.xla import jax_watch, watch
from xlatrain.xla.jax_program import JaxProgram, ProcessProgram
from xlatrain.xla.jax_tensor import reads, to_jax
from xlatrain.xla.message import pack, unpack
from xlatrain.xla.replica import Counts, HostTensors, Replica, Step, Tensors
from xlatrain.xla.trace import ExportedStep, export
from xlatrain.xla.transfer import to_device
from xlatrain.xla.world import planned_world

T = TypeVar("T")

_LONG_MS = 24 * 3600 * 1000  # a replica may evaluate, save or compile for long; who is gone is found otherwise


@dataclass(frozen=True)
class JaxReplica(Replica):
    """A replica on a device of JAX; its tensors are JaxTensors. ordinal: the device's place among all of the run.
    leads: whether its process is the first of its machine."""

    leads: bool = True
    running: list[jax.Array] = field(default_factory=list)  # the results of the last step
    numbers: itertools.count = field(default_factory=itertools.count)  # of things that all replicas do in one order

    def to_device(self, tensors: HostTensors) -> Tensors:
        return {name: to_jax(tensor, self.device) for name, tensor in tensors.items()}

    def compile(self, step: Step, name: str, carry: Tensors, inputs: Tensors, keep_hlo: bool) -> JaxProgram:
        """The replicas of a process compile the same steps in the same order: the first to come does it for all. So
        does the first process of a machine, whose cores they share: the others find in the cache what it compiled."""
        key = f"program {next(self.numbers)}"

        def build() -> ProcessProgram:
            exported = _export(step, name, carry, inputs, self.world_size)
            if not self.leads:
                _wait_for_processes(key)
            hits = jax_watch.cache_hits()
            program = ProcessProgram(exported, jax.devices(), jax.local_devices())
            watch.record_compiles(name, 1 - (jax_watch.cache_hits() - hits))
            if self.leads and self.processes > 1:
                _wait_for_processes(key)
            return program

        program = self.shared(key, build)
        self._local_barrier()
        self.unshare(key)
        return JaxProgram(program.step.hlo if keep_hlo else None, program, self.local_ordinal, self.running)

    def wait(self) -> None:
        for array in self.running:
            if not array.is_deleted():
                array.block_until_ready()

    @contextlib.contextmanager
    def profiled(self, folder: Path) -> Iterator[None]:
        options = jax.profiler.ProfileOptions()
        options.host_tracer_level = 3  # ops of a CPU are told of from here on
        options.python_tracer_level = 0
        jax.profiler.start_trace(folder, profiler_options=options)
        try:
            yield
        finally:
            jax.profiler.stop_trace()

    def counts(self, *names: str) -> Counts:
        other = watch.uncached_compiles() + jax_watch.own_compiles()
        return Counts({n: watch.compiles(n) for n in names}, other, watch.fallback_ops(), reads())

    def _unbooked_compiles(self) -> int:
        return watch.uncached_compiles() + jax_watch.own_compiles()

    def _process_barrier(self) -> None:
        number = next(self.numbers)
        if self.local_ordinal == 0:
            _wait_for_processes(f"barrier {number}")

    def _broadcast(self, value: T) -> T:
        key, client = f"xlatrain/{next(self.numbers)}", distributed.global_state.client
        if self.is_first:
            client.key_value_set_bytes(key, pack(value))
        self.barrier()
        return unpack(client.blocking_key_value_get_bytes(key, 60_000))


def this_replica(platform: str, place: int, leads: bool) -> JaxReplica:
    """The replica of this process's device number `place`, in a process that has joined. leads: as in JaxReplica."""
    # Equal small tensors would otherwise share a buffer, and be one parameter of a trace.
    torch_xla._XLAC._set_xla_enable_device_data_cache(False)
    here, devices = jax.local_devices(), jax.devices()
    return JaxReplica(
        ordinal=devices.index(here[place]),
        world_size=len(devices),
        local_ordinal=place,
        local_count=len(here),
        process=jax.process_index(),
        processes=jax.process_count(),
        device=here[place],
        platform=platform,
        leads=leads,
    )


def _wait_for_processes(name: str) -> None:
    """Wait until each process of the run has come to the place of that name, which is used once."""
    distributed.global_state.client.wait_at_barrier(f"xlatrain {name}", _LONG_MS)


def _export(step: Step, name: str, carry: Tensors, inputs: Tensors, world: int) -> ExportedStep:
    """The step as one of so many replicas has it, traced on tensors of torch_xla with the same shapes."""
    device = torch_xla.device()

    def blank(tensors: Tensors) -> HostTensors:
        return to_device({k: torch.zeros(t.shape, dtype=t.dtype) for k, t in tensors.items()}, device)

    with planned_world(world):
        return export(step, name, blank(carry), blank(inputs), device)
