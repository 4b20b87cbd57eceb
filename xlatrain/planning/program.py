"""What a compiled step does: time by kind of op and by module, FLOPs, collectives, products, idle lanes."""

from __future__ import annotations

import functools
import math
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace

from xlatrain.planning.bounds import Product
from xlatrain.planning.hlo import Instruction, Module, Shape
from xlatrain.planning.network import Collective

COLLECTIVES = ("all-reduce", "all-gather", "reduce-scatter", "collective-permute", "all-to-all")
LANES = 128


@dataclass(frozen=True)
class Op:
    """An instruction that takes time. kind: what it mostly does, as `_kind` names it; lanes: how many of 128 its result
    fills, None if untiled; padding: share of its result's memory that is padding."""

    name: str
    kind: str
    scope: str
    op: str
    cycles: int
    lanes: int | None
    padding: float
    shape: str
    batch_minor: bool  # the first dimension, of activations the batch, lies across the lanes


@dataclass(frozen=True)
class Program:
    """A compiled step, read. flops: of convolutions and products as compiled, multiply and add counted apart, zeros
    that a strided gradient inserts left out, those of a diagonal kernel not."""

    ops: tuple[Op, ...]
    collectives: tuple[Collective, ...]
    flops: float
    products: tuple[Product, ...]

    @property
    def cycles(self) -> int:
        return sum(op.cycles for op in self.ops)

    def with_depthwise(self, modules: frozenset[str]) -> Program:
        """The dense convolutions of these modules named for what they are: depthwise ones with a diagonal kernel."""
        ops = (
            replace(op, kind="depthwise as dense") if op.kind == "dense convolution" and op.scope in modules else op
            for op in self.ops
        )
        return replace(self, ops=tuple(ops))

    def by_kind(self) -> dict[str, int]:
        """Cycles of each kind of op, most first."""
        total: Counter[str] = Counter()
        for op in self.ops:
            total[op.kind] += op.cycles
        return dict(total.most_common())

    def by_part(self) -> dict[str, int]:
        """Cycles of each part of the model, named by two levels as in blocks.1, and of the step, most first. rest: what
        the compiler made of arguments."""
        total: Counter[str] = Counter()
        for op in self.ops:
            total[".".join(op.scope.split(".")[:2]) or "rest"] += op.cycles
        return dict(total.most_common())


def read_program(module: Module, replicas: int) -> Program:
    """Read a step compiled for a number of replicas."""
    ops, collectives, products, flops = [], Counter(), [], 0.0
    for computation, instruction in module.executed():
        base = instruction.opcode.removesuffix("-start")
        if base in COLLECTIVES:
            result = instruction.shapes[-1:] if instruction.opcode.endswith("-start") else instruction.shapes
            collectives[base, sum(s.bytes for s in result), _group_size(instruction, replicas)] += 1
        inside = module.fused(instruction) if instruction.opcode not in ("while", "conditional") else []
        convolutions = [(c or computation, i) for c, i in inside if i.opcode in ("convolution", "dot")]
        for where, convolution in convolutions:
            flops += _flops(module, where, convolution)
            products += _products(module, where, convolution, instruction)
        if instruction.cycles:
            scope = module.origin(computation, instruction)
            ops.append(_op(instruction, scope, [i for _, i in inside], [c for _, c in convolutions]))
    found = [Collective(op, size, group, n) for (op, size, group), n in collectives.items()]
    return Program(tuple(ops), tuple(sorted(found, key=lambda c: -c.bytes * c.count)), flops, tuple(products))


def _op(instruction: Instruction, scope: str, inside: list[Instruction], convolutions: list[Instruction]) -> Op:
    largest = max(instruction.shapes, key=lambda s: s.padded_bytes, default=Shape("pred", ()))
    padding = 1.0 - largest.bytes / largest.padded_bytes if largest.padded_bytes else 0.0
    return Op(
        name=instruction.name,
        kind=_kind(instruction, inside, convolutions),
        scope=scope,
        op=instruction.op,
        cycles=instruction.cycles,
        lanes=None if largest.lanes is None else min(largest.lanes, LANES),
        padding=padding,
        shape=f"{largest.dtype}{list(largest.dims)}",
        batch_minor=largest.minor_to_major[:1] == (0,),
    )


def _kind(instruction: Instruction, inside: list[Instruction], convolutions: list[Instruction]) -> str:
    if convolutions:
        grouped = any(
            c.attribute("feature_group_count") > 1 or c.attribute("batch_group_count") > 1 for c in convolutions
        )
        if not grouped:
            return "dense convolution"
        return (
            "depthwise weight gradient"
            if convolutions[0].attribute("batch_group_count") > 1
            else "depthwise convolution"
        )
    opcodes = {i.opcode for i in inside}
    if opcodes & {"reduce", "reduce-window"}:
        return "reduction"
    if instruction.opcode in ("infeed", "outfeed"):
        return "infeed"
    moves = {"copy", "transpose", "reshape", "bitcast", "slice", "concatenate", "pad", "broadcast", "dynamic-slice",
             "dynamic-update-slice", "parameter", "constant", "fusion", "tuple", "get-tuple-element", "gather",
             "copy-start", "copy-done", "convert"}  # fmt: skip
    return "copy" if opcodes <= moves else "elementwise"


def _flops(module: Module, computation: str, convolution: Instruction) -> float:
    """2 · multiply-adds of real values: not those with the zeros of padding or of a stride's gradient. The compiler may
    swap input and kernel, which only an exact count survives."""
    operands = [module.computations[computation][name].shapes[0] for name in convolution.operands[:2]]
    result = convolution.shapes[0]
    if convolution.opcode == "dot":
        contracted = convolution.text.split("lhs_contracting_dims={", 1)[1].split("}", 1)[0]
        return 2.0 * result.elements * math.prod(operands[0].dims[int(d)] for d in contracted.split(",") if d)
    geometry = _geometry(convolution, *operands)
    return 2.0 * geometry.rows * geometry.depth * geometry.columns * math.prod(pairs for _, _, pairs in geometry.axes)


@dataclass(frozen=True)
class _Geometry:
    """A convolution as loops. rows: batch of the result; columns: its features; depth: contracted features; axes: for
    each spatial axis the places of the result, of the window, and the pairs of them that meet a real input."""

    rows: int
    columns: int
    depth: int
    axes: tuple[tuple[int, int, int], ...]


def _geometry(convolution: Instruction, left: Shape, kernel: Shape) -> _Geometry:
    found = re.search(r"dim_labels=(\w+?)_(\w+)->(\w+)", convolution.text)
    inputs, kernels, results = found[1], found[2], found[3]
    result = convolution.shapes[0]
    count = len(results) - 2
    size, stride, holes, steps = (
        convolution.window(name) or (1,) * count for name in ("size", "stride", "lhs_dilate", "rhs_dilate")
    )
    axes = []
    for i in range(count):
        here, places = left.dims[inputs.index(str(i))], result.dims[results.index(str(i))]
        before = convolution.padding()[i] if convolution.padding() else 0
        axes.append((places, size[i], _pairs(here, places, size[i], stride[i], holes[i], steps[i], before)))
    rows, columns = (result.dims[results.index(n)] for n in "bf")
    return _Geometry(rows, columns, kernel.dims[kernels.index("i")], tuple(axes))


@functools.cache
def _pairs(here: int, places: int, size: int, stride: int, holes: int, steps: int, before: int) -> int:
    """Pairs of a result's place and a window's place that meet an input value, along one axis."""
    at = (place * stride + tap * steps - before for place in range(places) for tap in range(size))
    return sum(0 <= x <= (here - 1) * holes and x % holes == 0 for x in at)


def _products(module: Module, where: str, convolution: Instruction, instruction: Instruction) -> Iterator[Product]:
    """A convolution that is a product of matrices: dense, each input value met once on each axis."""
    grouped = convolution.attribute("feature_group_count") * convolution.attribute("batch_group_count")
    if convolution.opcode != "convolution" or grouped > 1:
        return
    left, kernel = (module.computations[where][name].shapes[0] for name in convolution.operands[:2])
    loops = _geometry(convolution, left, kernel)
    if any(pairs != max(places, size) for places, size, pairs in loops.axes):
        return
    spatial = math.prod(pairs for *_, pairs in loops.axes)
    if all(places == 1 for places, *_ in loops.axes):  # the gradient of a weight: all points are contracted
        p, c, k = loops.rows, loops.depth * spatial, loops.columns
    elif all(size == 1 for _, size, _ in loops.axes):
        p, c, k = loops.rows * spatial, loops.depth, loops.columns
    else:  # the compiler took the kernel for the input
        p, c, k = loops.columns * spatial, loops.depth, loops.rows
    result = convolution.shapes[0]
    value_bytes = max(1, result.bytes // max(1, result.elements))
    moved = _read(module, where, convolution) + result.padded_bytes
    scope = convolution.scope or instruction.scope
    yield Product(scope, convolution.op or instruction.op, p, c, k, moved, value_bytes)


def _read(module: Module, where: str, convolution: Instruction) -> int:
    """Bytes, padding included, of all that is read to make a convolution's inputs: the parameters of the fusion that
    it is in, as far as the inputs depend on them; of a slice or a reduction on the way only the result."""
    here = module.computations[where]
    total, waiting, seen = 0, list(convolution.operands), set()
    while waiting:
        name = waiting.pop()
        if name in seen or name not in here:
            continue
        seen.add(name)
        source = here[name]
        if (
            source.opcode in ("parameter", "slice", "dynamic-slice", "reduce")
            or not source.operands
            or where == module.entry
        ):
            total += sum(s.padded_bytes for s in source.shapes)
        else:
            waiting += source.operands
    return total


def _group_size(instruction: Instruction, replicas: int) -> int:
    """Replicas in each group, written as {{0,1},{2,3}}, [512,2]<=[1024], or {} for one group of all."""
    text = instruction.text.split("replica_groups=", 1)
    if len(text) == 1 or text[1].startswith("{}"):
        return replicas
    if text[1].startswith("["):
        return int(text[1][1:].split("]", 1)[0].split(",")[-1])
    first = text[1].lstrip("{").split("}", 1)[0]
    return len([n for n in first.split(",") if n])
