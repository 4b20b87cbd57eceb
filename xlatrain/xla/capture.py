"""CapturedStep: a step function traced once, compiled once, replayed ever after.

Tracing a lazy graph costs Python time on every step, more than a TPU needs to run it. A captured step pays once: the
function runs on lazy tensors, its graph is compiled without being run, and from then on a call hands device buffers to
the compiled program and takes its results. So everything that changes from step to step must be an argument.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch

from xlatrain.errors import CaptureError
from xlatrain.xla import pulse
from xlatrain.xla.replica import Program, Replica, Step, Tensors
from xlatrain.xla.trace import ExportedStep, export


class CapturedStep:
    """Runs `function(carry, inputs) -> (carry, outputs)` as one compiled program on a replica's device.

    All four are dicts of device tensors. The function must be pure: it returns a new carry with the same names, shapes
    and dtypes, changes nothing in place, reads no device value on the host, and is the same on all replicas: one of a
    process traces it for all. Breaking a rule raises CaptureError at the first call, naming the line, op or tensor.
    Buffers of the carry are donated: after a call the old carry is gone.

    A carry that holds `rng` (int64 scalar) seeds all random ops of the step; it advances by one each call, so masks
    differ from step to step, and from replica to replica when their first seeds do.

    replay=False traces and runs the function anew at every call: slow, for debugging, same results.
    strict: shapes of inputs other than those of the first call raise CaptureError; else they are compiled for.
    report(text) is told before and after a capture, which takes from seconds to minutes. keep_hlo: keep the program as
    traced in `hlo`, a serialized HloModuleProto. compiling: a context for a capture, as of a clock.
    """

    def __init__(
        self,
        function: Step,
        replica: Replica,
        name: str,
        replay: bool = True,
        report: Callable[[str], None] | None = None,
        keep_hlo: bool = False,
        strict: bool = False,
        compiling: Callable[[], AbstractContextManager[None]] = nullcontext,
    ):
        self.function, self.replica, self.name, self.replay = function, replica, name, replay
        self.report = report or (lambda text: None)
        self.keep_hlo, self.strict, self.compiling = keep_hlo, strict, compiling
        self.hlo: bytes | None = None
        self.capture_seconds = 0.0
        self.captures = 0
        self._programs: dict[tuple, Program] = {}
        self._shapes: dict[str, torch.Size] = {}  # of the inputs that were captured last

    def __call__(self, carry: Tensors, inputs: Tensors) -> tuple[Tensors, Tensors]:
        key = tuple(t.shape for t in inputs.values())
        program = self._programs.get(key) if self.replay else None
        if program is None:
            self.captures += 1
            program = self._programs[key] = self._capture(carry, inputs, announce=key not in self._programs)
        return program(carry, inputs)

    def prepare(self, carry: Tensors, inputs: Tensors) -> None:
        """Trace and compile for inputs of these shapes ahead of the first call with them. Runs nothing."""
        key = tuple(t.shape for t in inputs.values())
        if self.replay and key not in self._programs:
            self.captures += 1
            self._programs[key] = self._capture(carry, inputs, announce=True)

    def export(self, carry: Tensors, inputs: Tensors) -> ExportedStep:
        """Trace the step on a device of torch_xla and return its program, neither compiled nor run. The carry stays
        usable."""
        return export(self.function, self.name, carry, inputs, self.replica.device)

    def _capture(self, carry: Tensors, inputs: Tensors, announce: bool) -> Program:
        shape = next((f" for {k} {_describe(t)}" for k, t in inputs.items() if t.ndim), "")
        if announce:
            self.report(f"compiling the {self.name}{self._again(inputs)}{shape}")
        self._shapes = {name: tensor.shape for name, tensor in inputs.items()}
        started = time.perf_counter()
        self.replica.wait()  # a compile takes a lock of the process: none may be held up by a step that still runs
        with self.compiling() if announce else nullcontext(), pulse.compiling(self.replica.ordinal):
            program = self.replica.compile(self.function, self.name, carry, inputs, self.keep_hlo)
            self.hlo = program.hlo
            # The others trace after the first: without the barrier they would keep it waiting in a collective.
            self.replica.barrier()
        seconds = time.perf_counter() - started
        self.capture_seconds += seconds
        if announce:
            self.report(f"compiled the {self.name} in {seconds:.1f} s")
        return program

    def _again(self, inputs: Tensors) -> str:
        """That there is another graph, and of which change it comes. Raises CaptureError where that is an error."""
        if not self._programs:
            return ""
        changes = [
            f"{name} was {list(self._shapes.get(name, ()))} and is {list(tensor.shape)}"
            for name, tensor in inputs.items()
            if tensor.shape != self._shapes.get(name)
        ]
        text = f" again ({len(self._programs) + 1} graphs now; {', '.join(changes)})"
        if self.strict:
            raise CaptureError(f"the {self.name} would be compiled{text}. engine.strict=false does so")
        return text


def _describe(tensor: Any) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')}{list(tensor.shape)}"
