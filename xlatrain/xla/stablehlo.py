"""A traced program as StableHLO, which other compilers take. Needs jaxlib, whose translators need no device."""

from __future__ import annotations

import contextlib
import importlib.util
import io
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

_DTYPES = {
    "f32": "float32",
    "f64": "float64",
    "f16": "float16",
    "bf16": "bfloat16",
    "i1": "bool",
    "i8": "int8",
    "i16": "int16",
    "i32": "int32",
    "i64": "int64",
    "ui8": "uint8",
    "ui16": "uint16",
    "ui32": "uint32",
    "ui64": "uint64",
}


@dataclass(frozen=True)
class TensorType:
    """dtype: by numpy's name."""

    dtype: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class PortableProgram:
    """content: StableHLO in its versioned serialization, which later releases read. version: the oldest that reads it.
    arguments, results: of its function, in order."""

    content: bytes
    version: str
    arguments: tuple[TensorType, ...]
    results: tuple[TensorType, ...]


def missing_libraries() -> list[str]:
    """What has to be installed for this, by name."""
    return [name for name in ("jax", "jaxlib") if importlib.util.find_spec(name) is None]


def to_stablehlo(hlo: bytes, aliases: Mapping[int, int]) -> bytes:
    """A serialized HloModuleProto as MLIR bytecode, for this jaxlib alone. aliases: result to parameter, of results
    that are written over the buffers of parameters, as a run donates them."""
    with _module(hlo, aliases) as module:
        buffer = io.BytesIO()
        module.operation.write_bytecode(buffer)
        return buffer.getvalue()


def to_portable(hlo: bytes, aliases: Mapping[int, int]) -> PortableProgram:
    """The same as a portable artifact, which what is up to twelve weeks older than this jaxlib reads, and for five
    years what is newer. What StableHLO has no op for, as the error function, is a custom call that XLA knows."""
    from jaxlib import _jax
    from jaxlib.mlir.dialects import stablehlo

    with _module(hlo, aliases, _jax.mlir.mhlo_to_stablehlo) as module:
        weeks = stablehlo.StablehloCompatibilityRequirement.WEEK_12
        version = stablehlo.get_version_from_compatibility_requirement(weeks)
        kind = _entry(module).type
        content = stablehlo.serialize_portable_artifact(module, version)
        return PortableProgram(content, version, _types(kind.inputs), _types(kind.results))


@contextlib.contextmanager
def _module(
    hlo: bytes, aliases: Mapping[int, int], convert: Callable[[bytes], bytes] = lambda content: content
) -> Iterator[Any]:
    """The program, for as long as its context is open. convert: applied to what the translator leaves."""
    from jax._src.interpreters.mlir import make_ir_context  # private, but jax is pinned: it knows all dialects
    from jaxlib import _jax
    from jaxlib.mlir import ir

    with make_ir_context():
        module = ir.Module.parse(convert(_jax.mlir.hlo_to_stablehlo(hlo)))
        entry = _entry(module)
        index = ir.IntegerType.get_signless(32)
        attributes = [{} for _ in entry.arguments]
        for result, parameter in aliases.items():
            attributes[parameter] = {"tf.aliasing_output": ir.IntegerAttr.get(index, result)}
        entry.arg_attrs = ir.ArrayAttr.get([ir.DictAttr.get(a) for a in attributes])
        yield module


def _entry(module: Any) -> Any:
    from jaxlib.mlir.dialects import func

    return next(op for op in module.body if isinstance(op, func.FuncOp) and op.name.value == "main")


def _types(kinds: Iterable[Any]) -> tuple[TensorType, ...]:
    from jaxlib.mlir import ir

    tensors = [ir.RankedTensorType(kind) for kind in kinds]
    return tuple(TensorType(_DTYPES[str(t.element_type)], tuple(t.shape)) for t in tensors)
