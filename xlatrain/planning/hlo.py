"""Reading a compiled program: shapes with their tiles, instructions with their estimated cycles, in a few regexes."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from functools import cached_property

from xlatrain.xla.op_names import operation_of, scope_of

_BITS = {"pred": 8, "s8": 8, "u8": 8, "s16": 16, "u16": 16, "bf16": 16, "f16": 16, "s32": 32, "u32": 32, "f32": 32,
         "s64": 64, "u64": 64, "f64": 64, "s4": 4, "u4": 4}  # fmt: skip

_SHAPE = re.compile(r"([a-z]\w*)\[([\d,]*)\](?:\{([\d,]*)(?::([^}]*))?\})?")
_INSTRUCTION = re.compile(r"^\s*(?:ROOT )?%([\w.\-]+) = (.*)$")
_COMPUTATION = re.compile(r"^(ENTRY )?%([\w.\-]+) \(.*\{$")
_OPCODE = re.compile(r" ([a-z][\w\-]*)\(")
_CALLS = re.compile(r"(?:calls|to_apply|body|condition|true_computation|false_computation)=%([\w.\-]+)")
_BRANCHES = re.compile(r"branch_computations=\{([^}]*)\}")


@dataclass(frozen=True)
class Shape:
    """An array: its type, dimensions, and how it lies in memory. minor_to_major: dimensions from the fastest varying;
    tile: (rows, lanes) of the two most minor ones, or (lanes,), or ()."""

    dtype: str
    dims: tuple[int, ...]
    minor_to_major: tuple[int, ...] = ()
    tile: tuple[int, ...] = ()

    @property
    def elements(self) -> int:
        return math.prod(self.dims)

    @property
    def bytes(self) -> int:
        return self.elements * _BITS.get(self.dtype, 0) // 8

    @property
    def padded_bytes(self) -> int:
        """With dimensions rounded up to whole tiles: what it takes in memory."""
        dims = list(self.dims)
        for dim, tile in zip(self.minor_to_major, reversed(self.tile), strict=False):
            dims[dim] = -(-dims[dim] // tile) * tile
        return math.prod(dims) * _BITS.get(self.dtype, 0) // 8

    @property
    def lanes(self) -> int | None:
        """The size of the dimension that lies across the 128 lanes, if it is tiled in two dimensions."""
        return self.dims[self.minor_to_major[0]] if len(self.tile) == 2 and self.minor_to_major else None


@dataclass(frozen=True)
class Instruction:
    """One line. shapes: its results; operands: names in the same computation; scope: the module of the model that it
    comes from, or ""; op: the PyTorch operation; cycles: the compiler's estimate, 0 where it has none."""

    name: str
    opcode: str
    shapes: tuple[Shape, ...]
    operands: tuple[str, ...]
    text: str = field(repr=False)

    @cached_property
    def cycles(self) -> int:
        found = re.search(r'"estimated_cycles":"?(\d+)', self.text)
        return int(found[1]) if found else 0

    @cached_property
    def _op_name(self) -> str:
        found = re.search(r'op_name="([^"]*)"', self.text)
        return found[1] if found else ""

    @property
    def scope(self) -> str:
        """The innermost of the scopes that the operation was traced in."""
        return scope_of(self._op_name)

    @property
    def op(self) -> str:
        return operation_of(self._op_name)

    @cached_property
    def calls(self) -> tuple[str, ...]:
        return tuple(_CALLS.findall(self.text))

    @cached_property
    def branches(self) -> tuple[str, ...]:
        """The computations of a conditional, of which one runs."""
        if self.opcode != "conditional":
            return ()
        found = _BRANCHES.search(self.text)
        return tuple(n.strip().lstrip("%") for n in found[1].split(",")) if found else self.calls

    def attribute(self, name: str, default: int = 1) -> int:
        found = re.search(rf"\b{name}=(\d+)", self.text)
        return int(found[1]) if found else default

    def window(self, name: str) -> tuple[int, ...]:
        """An entry of the window: "size", "stride", "lhs_dilate", "rhs_dilate"; () where it has none."""
        window = re.search(r"window=\{([^}]*)\}", self.text)
        found = re.search(rf"\b{name}=([\dx]+)", window[1]) if window else None
        return tuple(int(n) for n in found[1].split("x")) if found else ()

    def padding(self) -> tuple[int, ...]:
        """Padding before the input, along each axis of the window; () where it has none."""
        window = re.search(r"window=\{([^}]*)\}", self.text)
        found = re.search(r"\bpad=([\-\d_x]+)", window[1]) if window else None
        return tuple(int(pair.split("_")[0]) for pair in found[1].split("x")) if found else ()


@dataclass(frozen=True)
class Module:
    """A compiled program: instructions by computation."""

    computations: dict[str, dict[str, Instruction]]
    entry: str

    def instructions(self, computation: str) -> list[Instruction]:
        return list(self.computations[computation].values())

    def fused(self, instruction: Instruction) -> list[tuple[str, Instruction]]:
        """What an instruction computes, with the computation it is in: itself, and all that it calls."""
        found, waiting = [("", instruction)], list(instruction.calls)
        while waiting:
            name = waiting.pop()
            for inner in self.instructions(name):
                found.append((name, inner))
                waiting += inner.calls
        return found

    def origin(self, computation: str, instruction: Instruction) -> str:
        """The scope of an instruction; of one that the compiler added, that of what it consists of or is made from;
        "" where that ends at an argument of the program."""
        here: Instruction | None = instruction
        while here is not None:
            scopes = [inner.scope for _, inner in self.fused(here) if inner.scope]
            if scopes:
                return scopes[0]
            here = self.computations[computation].get(here.operands[0]) if here.operands else None
        return ""

    def executed(self) -> list[tuple[str, Instruction]]:
        """The instructions that a run of the program executes at the top: of the entry, of loops (once), and of each
        conditional its cheaper branch, the other being for rare cases."""
        found: list[tuple[str, Instruction]] = []

        def walk(name: str) -> None:
            for instruction in self.instructions(name):
                found.append((name, instruction))
                if instruction.opcode == "while":
                    for inner in instruction.calls:
                        walk(inner)
                elif instruction.branches:
                    walk(min(instruction.branches, key=self._cost))

        walk(self.entry)
        return found

    def _cost(self, name: str) -> int:
        total = 0
        for instruction in self.instructions(name):
            total += instruction.cycles
            inner = instruction.branches or (instruction.calls if instruction.opcode == "while" else ())
            total += sum(self._cost(c) for c in inner)
        return total


def parse_shapes(text: str) -> tuple[Shape, ...]:
    """The arrays of a type, a tuple's one after the other."""
    shapes = []
    for dtype, dims, order, layout in _SHAPE.findall(text):
        if dtype not in _BITS:
            continue
        tile = re.match(r"T\(([\d,]+)\)", layout or "")
        shapes.append(Shape(dtype, _integers(dims), _integers(order), _integers(tile[1]) if tile else ()))
    return tuple(shapes)


def parse_module(text: str) -> Module:
    """Parse the text of an optimised module. Raises ValueError if it has no entry."""
    computations: dict[str, dict[str, Instruction]] = {}
    entry, current = None, None
    for line in text.splitlines():
        if head := _COMPUTATION.match(line):
            current = computations.setdefault(head[2], {})
            entry = head[2] if head[1] else entry
        elif current is not None and (found := _INSTRUCTION.match(line)):
            rest = f" {found[2]}"
            opcode = _OPCODE.search(_without_layouts(rest))
            if opcode:
                kind = opcode[1]
                start = rest.index(f" {kind}(")
                arguments = rest[start:].split(")", 1)[0]
                current[found[1]] = Instruction(
                    found[1], kind, parse_shapes(rest[:start]), tuple(re.findall(r"%([\w.\-]+)", arguments)), rest
                )
    if entry is None:
        raise ValueError("no entry computation: not the text of an optimised module")
    return Module(computations, entry)


def _without_layouts(text: str) -> str:
    """Tiles look like calls: T(8,128)."""
    return re.sub(r"\{[^{}]*\}", "", text[:4000])


def _integers(text: str) -> tuple[int, ...]:
    return tuple(int(n) for n in text.split(",") if n)
