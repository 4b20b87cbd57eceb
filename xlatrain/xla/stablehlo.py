"""A program of torch_xla as StableHLO, which JAX's compilers take."""

from __future__ import annotations

import io
from collections.abc import Mapping


def stablehlo(hlo: bytes, aliases: Mapping[int, int]) -> bytes:
    """A serialized HloModuleProto as MLIR bytecode. aliases: result index to the parameter index whose buffer it takes,
    as a run donates it. Needs jax, not torch_xla."""
    from jax._src.interpreters.mlir import make_ir_context  # private, but jax is pinned: it knows all dialects
    from jaxlib import _jax
    from jaxlib.mlir import ir
    from jaxlib.mlir.dialects import func

    with make_ir_context():
        parsed = ir.Module.parse(_jax.mlir.hlo_to_stablehlo(hlo))
        functions = [op for op in parsed.body if isinstance(op, func.FuncOp)]
        entry = next(f for f in functions if f.name.value == "main")
        index = ir.IntegerType.get_signless(32)
        attributes = [{} for _ in entry.arguments]
        for result, parameter in aliases.items():
            attributes[parameter] = {"tf.aliasing_output": ir.IntegerAttr.get(index, result)}
        entry.arg_attrs = ir.ArrayAttr.get([ir.DictAttr.get(a) for a in attributes])
        buffer = io.BytesIO()
        parsed.operation.write_bytecode(buffer)
        return buffer.getvalue()
