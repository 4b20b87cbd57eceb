"""What a step function must not do while it is captured, each caught where it happens and named."""

from __future__ import annotations

import contextlib
import linecache
import sys
from collections.abc import Iterator

import torch
import torch_xla
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from xlatrain.errors import CaptureError
from xlatrain.xla import watch

C = torch_xla._XLAC
aten = torch.ops.aten

# Ops that wait for the device and hand a value, or a shape that depends on values, to Python.
_HOST_READS = {
    aten._local_scalar_dense.default: "reads a device value on the host (.item(), float(), bool(), if tensor:)",
    aten.equal.default: "compares tensors on the host (torch.equal)",
    aten.nonzero.default: "has an output whose shape depends on values (nonzero, boolean indexing)",
}

FOREIGN = (
    "the {name} reads device tensors that are not among its arguments, whose values would be frozen into the program: "
    "{uses}. Pass them in the carry or inputs"
)


class Watcher(TorchDispatchMode):
    """Sees each op of a trace: raises at a host read; remembers where ops and tensors from outside were first used."""

    def __init__(self, name: str, arguments: dict[str, torch.Tensor]):
        super().__init__()
        self.name = name
        self.lines: dict[str, str] = {}  # op -> the line that called it first
        self.foreign: dict[int, str] = {}  # id of a device tensor that is neither argument nor made here -> its use
        self._known = {C._xla_get_tensor_id(t) for t in arguments.values()}

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        used = [a for a in tree_leaves((args, kwargs)) if isinstance(a, torch.Tensor) and a.is_xla]
        if used and (reads := _HOST_READS.get(function)):
            raise CaptureError(
                f"the {self.name} {reads} at {caller()}. A captured step runs without Python: "
                "keep it a tensor, or pass the value as an argument"
            )
        if used and function is aten._to_copy.default and _is_host(kwargs.get("device")):
            raise CaptureError(f"the {self.name} copies a device tensor to the host at {caller()}")
        op = function.overloadpacket._qualified_op_name
        if op not in self.lines:
            self.lines[op] = caller()
        for tensor in used:
            key = C._xla_get_tensor_id(tensor)
            if key not in self._known:
                self._known.add(key)
                self.foreign[key] = f"{tensor.dtype}{list(tensor.shape)}, used at {caller()}"
        result = function(*args, **kwargs)
        for tensor in tree_leaves(result):
            if isinstance(tensor, torch.Tensor) and tensor.is_xla:
                self._known.add(C._xla_get_tensor_id(tensor))
        return result


@contextlib.contextmanager
def tracing(name: str, arguments: dict[str, torch.Tensor]) -> Iterator[Watcher]:
    """Run the body as the trace of a step: host reads and CPU fallbacks raise CaptureError with their line."""
    before = watch.fallback_ops()
    watcher = Watcher(name, arguments)
    with watcher:
        yield watcher
    new = [op for op, count in watch.fallback_ops().items() if count > before.get(op, 0)]
    if new:
        places = "; ".join(f"{op} at {watcher.lines.get(op.split('.')[0]) or 'an unknown line'}" for op in new)
        raise CaptureError(f"the {name} uses ops that XLA cannot compile and that fall back to the CPU: {places}")


def check_carry(name: str, old: dict[str, torch.Tensor], new: dict[str, torch.Tensor]) -> None:
    """The carry that comes out must have the names, shapes and dtypes of the one that goes in."""
    if missing := set(old) ^ set(new):
        raise CaptureError(f"the {name} must return the carry it was given; not on both sides: {sorted(missing)}")
    for key, tensor in old.items():
        if tensor.shape != new[key].shape or tensor.dtype != new[key].dtype:
            raise CaptureError(
                f"the {name} changes carry {key!r} from {tensor.dtype}{list(tensor.shape)} "
                f"to {new[key].dtype}{list(new[key].shape)}"
            )


def check_untouched(name: str, arguments: dict[str, torch.Tensor]) -> None:
    """The function must not have changed an argument in place."""
    changed = C._check_tensor_need_materialization(list(arguments.values()))
    names = [key for key, touched in zip(arguments, changed, strict=True) if touched]
    if names:
        raise CaptureError(f"the {name} changes its arguments in place: {', '.join(names)}. Return new tensors instead")


def check_captured(watcher: Watcher, ids: list[int], seeded: bool) -> None:
    """Every device tensor that the graph reads must be an argument, a constant made inside the step, or the seed."""
    seed = C._get_seed_info_id()
    if seed in ids and not seeded:
        raise CaptureError(f"the {watcher.name} draws random numbers, but its carry holds no 'rng' to seed them")
    captured = [watcher.foreign[i] for i in ids if i in watcher.foreign]
    if captured:
        raise CaptureError(FOREIGN.format(name=watcher.name, uses="; ".join(captured)))


def _is_host(device: object) -> bool:
    return device is not None and torch.device(device).type == "cpu"


def caller(but: str = __file__) -> str:
    """file:line of the innermost frame that is neither torch's, nor of this file or another."""
    frame = sys._getframe(1)
    while frame is not None:
        name = frame.f_code.co_filename
        if name not in (__file__, but) and "/torch/" not in name and "/torch_xla/" not in name:
            return f"{name}:{frame.f_lineno} ({linecache.getline(name, frame.f_lineno).strip()})"
        frame = frame.f_back
    return "the backward pass"
