"""CapturedStep: a step function traced once, compiled once, replayed ever after.

Tracing a lazy graph costs Python time on every step, more than a TPU needs to run it. A captured step pays once: the
function runs on lazy tensors, its graph is compiled without being run, and from then on a call hands device buffers to
the compiled program and takes its results. So everything that changes from step to step must be an argument.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch_xla

from xlatrain.errors import CaptureError
from xlatrain.xla import guard, watch
from xlatrain.xla.runtime import PROCESS_LOCK, Replica

C = torch_xla._XLAC

Tensors = dict[str, torch.Tensor]
Step = Callable[[Tensors, Tensors], tuple[Tensors, Tensors]]

RNG = "rng"  # the carry's random seed: int64 scalar, advanced by one each step


@dataclass(frozen=True)
class _Program:
    """A compiled graph and how to feed it.

    sources: for each parameter of the program the carry or input name it takes, or a constant tensor of the trace.
    results: for each carry or output name either the index of a program result, or the argument it equals.
    """

    hash: str
    sources: list[str | torch.Tensor]
    results: dict[str, int | str]


@dataclass(frozen=True)
class ExportedStep:
    """A traced step as a program that can be compiled elsewhere.

    hlo: a serialized HloModuleProto. parameters: for each parameter the carry or input name it takes, or "constant".
    aliases: result index to parameter index, for results that are written over the buffer they update. results: for
    each carry or output name the index of a result, or the argument it equals. constants: by parameter index, on the
    host.
    """

    hlo: bytes
    parameters: tuple[str, ...]
    aliases: dict[int, int]
    results: dict[str, int | str]
    constants: dict[int, torch.Tensor]


class CapturedStep:
    """Runs `function(carry, inputs) -> (carry, outputs)` as one compiled program on a replica's device.

    All four are dicts of device tensors. The function must be pure: it returns a new carry with the same names, shapes
    and dtypes, changes nothing in place, and reads no device value on the host. Breaking a rule raises CaptureError at
    the first call, naming the line, op or tensor. Buffers of the carry are donated: after a call the old carry is gone.

    A carry that holds `rng` (int64 scalar) seeds all random ops of the step; it advances by one each call, so masks
    differ from step to step, and from replica to replica when their first seeds do.

    replay=False traces and runs the function anew at every call: slow, for debugging, same results.
    report(text) is told before and after a capture, which takes from seconds to minutes. keep_hlo: keep the program as
    traced in `hlo`, a serialized HloModuleProto.
    """

    def __init__(
        self,
        function: Step,
        replica: Replica,
        name: str,
        replay: bool = True,
        report: Callable[[str], None] | None = None,
        keep_hlo: bool = False,
    ):
        self.function, self.replica, self.name, self.replay = function, replica, name, replay
        self.report = report or (lambda text: None)
        self.keep_hlo = keep_hlo
        self.hlo: bytes | None = None
        self.capture_seconds = 0.0
        self.captures = 0
        self._programs: dict[tuple, _Program] = {}
        # References to donated buffers: dropping the last one blocks until the program that owns them has run.
        self._spent: Tensors = {}

    def __call__(self, carry: Tensors, inputs: Tensors) -> tuple[Tensors, Tensors]:
        key = tuple(t.shape for t in inputs.values())
        program = self._programs.get(key) if self.replay else None
        if program is None:
            self.captures += 1
            program = self._programs[key] = self._capture(carry, inputs, announce=key not in self._programs)
        return self._run(program, carry, inputs)

    def prepare(self, carry: Tensors, inputs: Tensors) -> None:
        """Trace and compile for inputs of these shapes ahead of the first call with them. Runs nothing."""
        key = tuple(t.shape for t in inputs.values())
        if self.replay and key not in self._programs:
            self.captures += 1
            self._programs[key] = self._capture(carry, inputs, announce=True)

    def export(self, carry: Tensors, inputs: Tensors) -> ExportedStep:
        """Trace the step and return its program, neither compiled nor run. The carry stays usable."""
        with PROCESS_LOCK:
            arguments = _arguments(carry, inputs)
            results, ids, values = self._trace(carry, inputs, arguments)
            pending = _pending(results)
            hlo = C._get_xla_tensors_hlo_proto(pending)
            sources = self._sources(arguments, ids, values)
            names = [s if isinstance(s, str) else "constant" for s in sources]
            constants = {i: s.cpu() for i, s in enumerate(sources) if not isinstance(s, str)}
            table = _results(results, pending, arguments)
            C._clear_pending_irs(str(self.replica.device))
        updated = {f"carry.{name}" for name in _donated(carry)}
        aliases = {
            i: names.index(name) for name, i in table.items() if isinstance(i, int) and name in updated & set(names)
        }
        return ExportedStep(hlo, tuple(names), aliases, table, constants)

    def _run(self, program: _Program, carry: Tensors, inputs: Tensors) -> tuple[Tensors, Tensors]:
        arguments = _arguments(carry, inputs)
        for name in _donated(carry):
            C._set_buffer_donation(carry[name], True)
        fed = [arguments[s] if isinstance(s, str) else s for s in program.sources]
        produced = C._run_cached_graph(program.hash, fed)
        self._spent = carry
        return _split(
            {
                name: produced[source] if isinstance(source, int) else arguments[source]
                for name, source in program.results.items()
            }
        )

    def _capture(self, carry: Tensors, inputs: Tensors, announce: bool) -> _Program:
        shape = next((f" for {k} {_describe(t)}" for k, t in inputs.items() if t.ndim), "")
        again = f" again ({len(self._programs) + 1} graphs now)" if self._programs else ""
        if announce:
            self.report(f"compiling the {self.name}{again}{shape}")
        started = time.perf_counter()
        self.replica.wait()  # the lock must not be held while waiting for a replica that needs it
        with PROCESS_LOCK:
            arguments = _arguments(carry, inputs)
            results, ids, values = self._trace(carry, inputs, arguments)
            pending = _pending(results)
            donated = [
                values[ids.index(C._xla_get_tensor_id(carry[name]))]
                for name in _donated(carry)
                if C._xla_get_tensor_id(carry[name]) in ids
            ]
            self.hlo = C._get_xla_tensors_hlo_proto(pending) if self.keep_hlo else None
            compiles = watch.uncached_compiles()
            C._xla_set_enable_alias_with_buffer_donor_config(True)
            for value in donated:
                C._set_buffer_donation(value, True)
            graph = C._get_graph_hash(pending)
            C._xla_warm_up_cache(pending, [])
            C._xla_set_enable_alias_with_buffer_donor_config(False)
            watch.record_compiles(self.name, watch.uncached_compiles() - compiles)
            program = _Program(graph, self._sources(arguments, ids, values), _results(results, pending, arguments))
            C._clear_pending_irs(str(self.replica.device))
        # The others trace after the first: without the barrier they would keep it waiting in a collective meanwhile.
        self.replica.barrier()
        seconds = time.perf_counter() - started
        self.capture_seconds += seconds
        if announce:
            self.report(f"compiled the {self.name} in {seconds:.1f} s")
        return program

    def _trace(self, carry: Tensors, inputs: Tensors, arguments: Tensors) -> tuple[Tensors, list[int], list]:
        """Run the function lazily. Returns its named results, and the ids and values of the graph's parameters."""
        device = str(self.replica.device)
        if lazy := _pending(arguments):
            C._xla_sync_multi(lazy, [device], True, True)
        # Also forgets the token that chains collectives, or this graph would begin with the one traced before.
        C._clear_pending_irs(device)
        # Each random op derives its seed from that of the op before, also of an earlier trace: begin anew.
        C._xla_set_rng_seed(0, device)
        # Python numbers become constants of the program. As parameters, torch_xla's way, they come to 380 for B2, each
        # a cost at every step, and keep the compiler from folding them.
        C._set_xla_all_numbers_special_scalars(True)
        with guard.tracing(self.name, arguments) as watcher:
            new_carry, outputs = self.function(carry, inputs)
        if RNG in carry:
            new_carry = {**new_carry, RNG: carry[RNG] + 1}
        guard.check_carry(self.name, carry, new_carry)
        guard.check_untouched(self.name, arguments)
        results = {f"carry.{k}": t for k, t in new_carry.items()} | {f"outputs.{k}": t for k, t in outputs.items()}
        ids, values = C._get_tensors_xla_device_data_node(_pending(results))
        guard.check_captured(watcher, ids, seeded=RNG in carry)
        return results, ids, values

    def _sources(self, arguments: Tensors, ids: list[int], values: list) -> list[str | torch.Tensor]:
        names = {C._xla_get_tensor_id(t): name for name, t in arguments.items()}
        names[C._get_seed_info_id()] = f"carry.{RNG}"
        return [names.get(i, value) for i, value in zip(ids, values, strict=True)]


def _arguments(carry: Tensors, inputs: Tensors) -> Tensors:
    return {f"carry.{k}": t for k, t in carry.items()} | {f"inputs.{k}": t for k, t in inputs.items()}


def _donated(carry: Tensors) -> list[str]:
    """What is updated in place. Not scalars: torch_xla may keep equal scalars in one buffer, which cannot be given away
    for one and kept for another."""
    return [name for name, tensor in carry.items() if tensor.ndim]


def _split(results: Tensors) -> tuple[Tensors, Tensors]:
    carry = {k.removeprefix("carry."): t for k, t in results.items() if k.startswith("carry.")}
    outputs = {k.removeprefix("outputs."): t for k, t in results.items() if k.startswith("outputs.")}
    return carry, outputs


def _pending(results: Tensors) -> list[torch.Tensor]:
    """The results that a program has to compute, each once, in order."""
    tensors = list(results.values())
    needed = C._check_tensor_need_materialization(tensors)
    by_id = {C._xla_get_tensor_id(t): t for t, need in zip(tensors, needed, strict=True) if need}
    return list(by_id.values())


def _results(results: Tensors, pending: list[torch.Tensor], arguments: Tensors) -> dict[str, int | str]:
    index = {C._xla_get_tensor_id(t): i for i, t in enumerate(pending)}
    same = {C._xla_get_tensor_id(t): name for name, t in arguments.items()}
    table: dict[str, int | str] = {}
    for name, tensor in results.items():
        i = C._xla_get_tensor_id(tensor)
        if i not in index and i not in same:
            raise CaptureError(f"result {name!r} is a constant: the program would not compute it")
        table[name] = index[i] if i in index else same[i]
    return table


def _describe(tensor: torch.Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')}{list(tensor.shape)}"
