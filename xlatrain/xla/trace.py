"""A step function run once on lazy tensors of torch_xla: its graph, what feeds it, and what comes out of it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch_xla

from xlatrain.errors import CaptureError
from xlatrain.xla import guard
from xlatrain.xla.replica import PROCESS_LOCK, Step

C = torch_xla._XLAC

Tensors = dict[str, torch.Tensor]

RNG = "rng"  # the carry's random seed: int64 scalar, advanced by one each step


@dataclass(frozen=True)
class Trace:
    """A lazy graph. pending: the results that it computes, each once, in order. sources: for each parameter the carry
    or input name it takes, or a constant tensor of the trace. values: what the parameters held. results: for each carry
    or output name either the index of a pending result, or the argument it equals."""

    pending: list[torch.Tensor]
    sources: list[str | torch.Tensor]
    values: list[torch.Tensor]
    results: dict[str, int | str]

    def hlo(self) -> bytes:
        """The program, a serialized HloModuleProto."""
        return C._get_xla_tensors_hlo_proto(self.pending)


@dataclass(frozen=True)
class ExportedStep:
    """A traced step as a program that can be compiled elsewhere.

    hlo: a serialized HloModuleProto. parameters: for each parameter the carry or input name it takes, or "constant".
    aliases: result index to parameter index, for results that are written over the buffer they update. constants: on
    the host, by parameter index. results: for each carry or output name the index of a result, or the argument it
    equals.
    """

    hlo: bytes
    parameters: tuple[str, ...]
    aliases: dict[int, int]
    constants: dict[int, torch.Tensor]
    results: dict[str, int | str]


@contextlib.contextmanager
def traced(step: Step, name: str, carry: Tensors, inputs: Tensors, device: torch.device) -> Iterator[Trace]:
    """Run a step lazily, on tensors of a torch_xla device; its graph is there while this lasts, and nothing runs. The
    caller holds PROCESS_LOCK."""
    given = arguments(carry, inputs)
    settle(given, device)
    # Also forgets the token that chains collectives, or this graph would begin with the one traced before.
    C._clear_pending_irs(str(device))
    # Each random op derives its seed from that of the op before, also of an earlier trace: begin anew.
    C._xla_set_rng_seed(0, str(device))
    # Python numbers become constants of the program. As parameters, torch_xla's way, they come to 380 for B2, each
    # a cost at every step, and keep the compiler from folding them.
    C._set_xla_all_numbers_special_scalars(True)
    with guard.tracing(name, given) as watcher:
        new_carry, outputs = step(carry, inputs)
    if RNG in carry:
        new_carry = {**new_carry, RNG: carry[RNG] + 1}
    guard.check_carry(name, carry, new_carry)
    guard.check_untouched(name, given)
    results = {f"carry.{k}": t for k, t in new_carry.items()} | {f"outputs.{k}": t for k, t in outputs.items()}
    pending = _pending(results)
    ids, values = C._get_tensors_xla_device_data_node(pending)
    guard.check_captured(watcher, ids, seeded=RNG in carry)
    yield Trace(pending, _sources(given, ids, values), values, _results(results, pending, given))
    C._clear_pending_irs(str(device))


def export(step: Step, name: str, carry: Tensors, inputs: Tensors, device: torch.device) -> ExportedStep:
    """Trace a step and return its program, neither compiled nor run."""
    with PROCESS_LOCK, traced(step, name, carry, inputs, device) as trace:
        names = [s if isinstance(s, str) else "constant" for s in trace.sources]
        updated = {f"carry.{name}" for name in donated(carry)} & set(names)
        aliases = {i: names.index(n) for n, i in trace.results.items() if isinstance(i, int) and n in updated}
        constants = {i: s.cpu() for i, s in enumerate(trace.sources) if not isinstance(s, str)}
        return ExportedStep(trace.hlo(), tuple(names), aliases, constants, trace.results)


def settle(given: Tensors, device: torch.device) -> None:
    """Compute what of the arguments is not computed yet: a program takes device buffers."""
    if lazy := _pending(given):
        C._xla_sync_multi(lazy, [str(device)], True, True)


def arguments(carry: Tensors, inputs: Tensors) -> Tensors:
    """All that a step is given, by the names that a trace has for them."""
    return {f"carry.{k}": t for k, t in carry.items()} | {f"inputs.{k}": t for k, t in inputs.items()}


def donated(carry: Tensors) -> list[str]:
    """What is updated in place. Not scalars: torch_xla may keep equal scalars in one buffer, which cannot be given away
    for one and kept for another."""
    return [name for name, tensor in carry.items() if tensor.ndim]


@dataclass(frozen=True)
class Wiring:
    """How a program is fed and what comes of it, worked out once: a step then makes no names. fed: of each parameter
    whether it is of the carry, and its name there or among the inputs. carry, outputs: of each name the index of a
    result, or the argument that it equals, as in fed."""

    fed: tuple[tuple[bool, str], ...]
    carry: tuple[tuple[str, int | tuple[bool, str]], ...]
    outputs: tuple[tuple[str, int | tuple[bool, str]], ...]

    @classmethod
    def of(cls, parameters: Iterable[str], results: Mapping[str, int | str]) -> Wiring:
        """By the names that a trace has for them."""
        wired = [(name, s if isinstance(s, int) else _place(s)) for name, s in results.items()]
        parts = [
            tuple((name.removeprefix(part), s) for name, s in wired if name.startswith(part))
            for part in ("carry.", "outputs.")
        ]
        return cls(tuple(map(_place, parameters)), *parts)

    def feed(self, carry: Tensors, inputs: Tensors) -> list[Any]:
        """The arguments of the program, in order."""
        return [carry[name] if ours else inputs[name] for ours, name in self.fed]

    def take(self, produced: Sequence[Any], carry: Tensors, inputs: Tensors) -> tuple[Tensors, Tensors]:
        """The new carry and the outputs, of the program's results and of what it was given."""

        def found(source: int | tuple[bool, str]) -> Any:
            if isinstance(source, int):
                return produced[source]
            ours, name = source
            return carry[name] if ours else inputs[name]

        return {name: found(s) for name, s in self.carry}, {name: found(s) for name, s in self.outputs}


def _place(name: str) -> tuple[bool, str]:
    part, _, key = name.partition(".")
    return part == "carry", key


def _pending(results: Tensors) -> list[torch.Tensor]:
    """The results that a program has to compute, each once, in order."""
    tensors = list(results.values())
    needed = C._check_tensor_need_materialization(tensors)
    by_id = {C._xla_get_tensor_id(t): t for t, need in zip(tensors, needed, strict=True) if need}
    return list(by_id.values())


def _sources(given: Tensors, ids: list[int], values: list[torch.Tensor]) -> list[str | torch.Tensor]:
    names = {C._xla_get_tensor_id(t): name for name, t in given.items()}
    names[C._get_seed_info_id()] = f"carry.{RNG}"
    return [names.get(i, value) for i, value in zip(ids, values, strict=True)]


def _results(results: Tensors, pending: list[torch.Tensor], given: Tensors) -> dict[str, int | str]:
    index = {C._xla_get_tensor_id(t): i for i, t in enumerate(pending)}
    same = {C._xla_get_tensor_id(t): name for name, t in given.items()}
    table: dict[str, int | str] = {}
    for name, tensor in results.items():
        i = C._xla_get_tensor_id(tensor)
        if i not in index and i not in same:
            raise CaptureError(f"result {name!r} is a constant: the program would not compute it")
        table[name] = index[i] if i in index else same[i]
    return table
