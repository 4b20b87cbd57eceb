"""The runtime of torch_xla: started by xmp.spawn, one process per TPU chip, or one for all replicas of a CPU."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar

import torch
import torch_xla
import torch_xla.core.xla_model as xm
import torch_xla.runtime as xr

from xlatrain.xla import watch
from xlatrain.xla.message import pack, unpack
from xlatrain.xla.replica import PROCESS_LOCK, Counts, Replica, Step
from xlatrain.xla.trace import Tensors, Wiring, arguments, donated, settle, traced
from xlatrain.xla.transfer import to_device

C = torch_xla._XLAC
T = TypeVar("T")


@dataclass
class _Program:
    """A graph that torch_xla has compiled, and how to feed it; sources and results as in a Trace. taken: what of the
    carry is given away, by name."""

    hlo: bytes | None
    hash: str
    sources: list[str | torch.Tensor]
    results: dict[str, int | str]
    taken: list[str]
    # References to donated buffers: dropping the last one blocks until the program that owns them has run.
    spent: Tensors = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._constants = [(i, s) for i, s in enumerate(self.sources) if not isinstance(s, str)]
        self._wiring = Wiring.of([s for s in self.sources if isinstance(s, str)], self.results)

    def __call__(self, carry: Tensors, inputs: Tensors) -> tuple[Tensors, Tensors]:
        for name in self.taken:
            C._set_buffer_donation(carry[name], True)
        fed = self._wiring.feed(carry, inputs)
        for i, constant in self._constants:  # by rising index: each lands in its place
            fed.insert(i, constant)
        produced = C._run_cached_graph(self.hash, fed)
        self.spent = carry
        return self._wiring.take(produced, carry, inputs)


@dataclass(frozen=True)
class TorchXlaReplica(Replica):
    """A replica on a device of torch_xla; its tensors are torch's."""

    numbers: itertools.count = field(default_factory=itertools.count)  # of programs, which all compile in one order

    def to_device(self, tensors: Tensors) -> Tensors:
        return to_device(tensors, self.device)

    def compile(self, step: Step, name: str, carry: Tensors, inputs: Tensors, keep_hlo: bool) -> _Program:
        """The replicas of a process compile the same steps in the same order: the first to come traces and compiles for
        all, since their graphs are equal. Each has the constants on its own device."""
        key = f"program {next(self.numbers)}"
        with PROCESS_LOCK:
            program = self.shared(key, lambda: self._compile(step, name, carry, inputs, keep_hlo))
            settle(arguments(carry, inputs), self.device)
            constants = {str(i): s for i, s in enumerate(program.sources) if not isinstance(s, str)}
            placed = self.to_device(constants) if constants else {}
        self._local_barrier()
        self.unshare(key)
        return replace(program, sources=[placed.get(str(i), s) for i, s in enumerate(program.sources)], spent={})

    def _compile(self, step: Step, name: str, carry: Tensors, inputs: Tensors, keep_hlo: bool) -> _Program:
        """The program with its constants on the host."""
        with traced(step, name, carry, inputs, self.device) as trace:
            given_on = {source for source in trace.results.values() if isinstance(source, str)}
            taken = [name for name in donated(carry) if f"carry.{name}" not in given_on]
            hlo = trace.hlo() if keep_hlo else None
            compiles = watch.uncached_compiles()
            C._xla_set_enable_alias_with_buffer_donor_config(True)
            for source, value in zip(trace.sources, trace.values, strict=True):
                if isinstance(source, str) and source.removeprefix("carry.") in taken:
                    C._set_buffer_donation(value, True)
            graph = C._get_graph_hash(trace.pending)
            C._xla_warm_up_cache(trace.pending, [])
            C._xla_set_enable_alias_with_buffer_donor_config(False)
            watch.record_compiles(name, watch.uncached_compiles() - compiles)
            held = self.to_host({str(i): s for i, s in enumerate(trace.sources) if not isinstance(s, str)})
            sources = [held.get(str(i), s) for i, s in enumerate(trace.sources)]
            return _Program(hlo, graph, sources, trace.results, taken)

    def wait(self) -> None:
        """Waiting for *all* devices of the process, torch_xla's default, deadlocks against the other threads."""
        xm.wait_device_ops(xm.xla_real_devices([str(self.device)]))

    @contextlib.contextmanager
    def profiled(self, folder: Path) -> Iterator[None]:
        session = C.profiler.TslProfilerSessionWrapper()
        try:
            yield
        finally:
            session.export(session.stop(), str(folder))

    def counts(self, *names: str) -> Counts:
        return watch.counts(*names)

    def _unbooked_compiles(self) -> int:
        with PROCESS_LOCK:  # another replica may have compiled a step and not booked it yet
            return watch.unbooked_compiles()

    def _process_barrier(self) -> None:
        xm.rendezvous("barrier")  # an all-gather between devices: all of a process have to join in

    def _broadcast(self, value: T) -> T:
        return unpack(xm.rendezvous("broadcast", pack(value if self.is_first else None))[0])


def this_replica(platform: str) -> TorchXlaReplica:
    """The replica that the calling thread is. Touches the device: only inside what `launch` runs. Where it reads from
    follows from its process and its place there, never from its ordinal: "Global ordinals are not guaranteed to have
    any predictable relationship to the TPU worker ID nor are they guaranteed to be contiguous on each host"
    (torch_xla's runtime.py)."""
    # Equal small tensors would otherwise share a buffer, and a step that updates one in place would take it from all.
    C._set_xla_enable_device_data_cache(False)
    device = torch_xla.device()
    return TorchXlaReplica(
        ordinal=xr.global_ordinal(),
        world_size=xr.world_size(),
        local_ordinal=device.index,
        local_count=xr.addressable_runtime_device_count(),
        process=xr.process_index(),
        processes=xr.process_count(),
        device=device,
        platform=platform,
    )
