"""A traced step compiled and run by JAX's runtime, by one call for all devices of a process."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass

import jax
import numpy as np
from jax._src import (
    compiler,  # private, but jax is pinned; with them JAX's compile cache works for programs not its own
)
from jax._src.array import ArrayImpl
from jax._src.interpreters.mlir import make_ir_context
from jaxlib import _jax, xla_client
from jaxlib.mlir import ir

from xlatrain.xla.jax_tensor import JaxTensor, to_jax
from xlatrain.xla.replica import Tensors
from xlatrain.xla.stablehlo import to_stablehlo
from xlatrain.xla.trace import ExportedStep, Wiring


class ProcessProgram:
    """A compiled step, and the place where the replicas of a process meet to run it: each brings its arguments, the
    last one calls for all, and each takes the results of its device."""

    def __init__(self, step: ExportedStep, devices: Sequence[jax.Device], here: Sequence[jax.Device]):
        """Compile. devices: all of the run, in the order of their ordinals; here: those of this process."""
        self.step = step
        self.wiring = Wiring.of([name for name in step.parameters if name != "constant"], step.results)
        self._executable = _compile(step, devices)
        mesh = jax.sharding.Mesh(np.array(devices), ("replica",))
        whole, cut = jax.sharding.PartitionSpec(), jax.sharding.PartitionSpec("replica")
        # Made once: to make one for each of 25 arguments took 0.2 ms of each step.
        self._shardings = [jax.sharding.NamedSharding(mesh, spec) for spec in (whole, cut)]
        self._avals: dict[tuple, jax.core.ShapedArray] = {}
        self._world = len(devices)
        self._constants = {
            i: self._whole([to_jax(value, device).array for device in here]) for i, value in step.constants.items()
        }
        self._brought: list[list[jax.Array]] = [[] for _ in here]
        self._produced: list[list[jax.Array]] = []
        self._error: BaseException | None = None
        self._meeting = threading.Barrier(len(here), self._run)

    def __call__(self, place: int, given: list[jax.Array]) -> list[jax.Array]:
        """Run as the local replica `place`. given: what the step's parameters take, but for constants. Returns the
        results on its device. Raises what the call raises, on all replicas."""
        self._brought[place] = given
        self._meeting.wait()
        if self._error is not None:
            raise self._error
        return [parts[place] for parts in self._produced]

    def _run(self) -> None:
        """The call for all. What it raises goes to each of them: of a broken barrier nobody would know why."""
        try:
            columns = zip(*self._brought, strict=True)
            parameters = range(len(self.step.parameters))
            fed = [self._constants[i] if i in self._constants else self._whole(next(columns)) for i in parameters]
            self._produced = self._executable.execute_sharded(fed).disassemble_into_single_device_arrays()
        except BaseException as error:
            self._error = error

    def _whole(self, parts: Sequence[jax.Array]) -> jax.Array:
        """One array of the parts on this process's devices, which the call takes; nobody looks at its global shape."""
        first = parts[0].aval
        key = first.shape, first.dtype
        if (aval := self._avals.get(key)) is None:
            shape = (first.shape[0] * self._world, *first.shape[1:]) if first.shape else ()
            aval = self._avals[key] = jax.core.ShapedArray(shape, first.dtype)
        return ArrayImpl(aval, self._shardings[bool(first.shape)], [*parts], committed=True, _skip_checks=True)


@dataclass
class JaxProgram:
    """A compiled step as one replica of a process runs it. running: the results of its last call, shared with the
    replica, which waits for them."""

    hlo: bytes | None
    process: ProcessProgram
    place: int
    running: list[jax.Array]

    def __call__(self, carry: Tensors, inputs: Tensors) -> tuple[Tensors, Tensors]:
        wiring = self.process.wiring
        produced = self.process(self.place, [tensor.array for tensor in wiring.feed(carry, inputs)])
        self.running[:] = produced
        return wiring.take([JaxTensor(array) for array in produced], carry, inputs)


def _compile(step: ExportedStep, devices: Sequence[jax.Device]) -> _jax.LoadedExecutable:
    options = xla_client.CompileOptions()
    options.num_replicas, options.num_partitions = len(devices), 1
    assignment = np.array([device.id for device in devices]).reshape(-1, 1)
    options.device_assignment = xla_client.DeviceAssignment.create(assignment)
    with make_ir_context():
        module = ir.Module.parse(to_stablehlo(step.hlo, step.aliases))
        return compiler.compile_or_get_cached(
            devices[0].client, module, np.array(devices), options, [], _jax.DeviceList(tuple(devices))
        )
