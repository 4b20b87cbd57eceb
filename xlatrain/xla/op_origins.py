"""Which module of the model each op of a compiled program comes from, also where the compiler has put an op of its own,
which has no name, in the place of one that had.

XLA:CPU does so with nearly every convolution and product: it wants other layouts, and the ops around that change them
keep the name, if any.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any

from xlatrain.xla.op_names import operation_of, scope_of

_FAR = 100  # ops away from one whose origin is known
_DEEP = 4  # computations within computations
_PRODUCTS = ("convolution", "dot")
_OF_PRODUCT = re.compile(r"conv|mm|dot|linear|einsum|matmul")  # operations of PyTorch that are one
_MOVES = ("bitcast", "transpose", "copy", "reshape", "convert", "slice", "pad", "reverse", "get-tuple-element")
_CALLS = ("call", "fusion")

Origin = tuple[str, str]  # the scope and the operation, "" where they are not known


def find_origins(computations: Iterable[Any]) -> dict[str, Origin]:
    """The origin of every op by its name. computations: HloComputationProto, those of a program."""
    program = _Program(computations)
    products = {i.id: program.of_product(i) for i in program.by_id.values() if i.opcode in _PRODUCTS}
    near: dict[str, set[str]] = {}  # the modules of the products that a tensor goes into
    for number, (scope, _) in products.items():
        for source in program.sources(program.by_id[number]) if scope else ():
            near.setdefault(source, set()).add(scope)
    for number, (scope, _) in products.items():
        if not scope:
            products[number] = program.of_kernel_gradient(program.by_id[number], near), ""
    return {i.name: products.get(i.id) or program.origin(i) for i in program.by_id.values()}


class _Program:
    def __init__(self, computations: Iterable[Any]):
        self._computations = {c.id: c for c in computations}
        self.by_id = {i.id: i for c in self._computations.values() for i in c.instructions}
        self._within = {i.id: c.id for c in self._computations.values() for i in c.instructions}
        self._callers = {called: i for i in self.by_id.values() for called in i.called_computation_ids}
        self._users: dict[int, list[Any]] = {}
        for instruction in self.by_id.values():
            for operand in set(instruction.operand_ids):
                self._users.setdefault(operand, []).append(instruction)

    def origin(self, instruction: Any) -> Origin:
        """Of one that the compiler made, where what it consists of or is made from comes from."""
        scope, operation = self._told(instruction)
        here, steps = self._made_from(instruction), 0
        while not scope and here is not None and steps < _FAR:
            scope, here, steps = self._told(here)[0], self._made_from(here), steps + 1
        return scope, operation

    def of_product(self, instruction: Any) -> Origin:
        """By its own name, or by what brings its result back into the old layout."""
        found = self._told(instruction)
        waiting, seen = [instruction], {instruction.id}
        while not found[0] and waiting and len(seen) < _FAR:
            for user in self._handed_on(waiting.pop(0)):
                name = user.metadata.op_name
                if user.opcode in _MOVES and _OF_PRODUCT.search(operation_of(name)) and scope_of(name):
                    return scope_of(name), operation_of(name)
                if user.id not in seen and user.opcode in (*_MOVES, "parameter"):
                    seen.add(user.id)
                    waiting.append(user)
        return found

    def of_kernel_gradient(self, instruction: Any, near: dict[str, set[str]]) -> str:
        """The scope of a product whose result goes into the gradients, as that of a kernel does: of the module whose
        other products take the same images, and the same gradient of its output. "" where that is not one alone."""
        modules = [near.get(source, set()) for source in self.sources(instruction)]
        both = set.intersection(*modules) if modules else set()
        found = both or set().union(*modules)
        return found.pop() if len(found) == 1 else ""

    def sources(self, instruction: Any) -> list[str]:
        """What made that which goes into an op, whatever was done to its layout on the way: names as they were traced,
        which ops that the compiler has doubled share."""
        return [self._source(operand) for operand in instruction.operand_ids]

    def _source(self, number: int) -> str:
        for _ in range(_FAR):
            here = self.by_id[number]
            before = self._made_from(here) if here.opcode == "parameter" or self._moves(here) else None
            if before is None:
                break
            number = before.id
        return self._name(self.by_id[number]) or str(number)

    def _moves(self, instruction: Any, depth: int = 0) -> bool:
        """Whether an op changes the layout of what it is given, and nothing else."""
        if instruction.opcode not in _CALLS:
            return instruction.opcode in _MOVES
        inner = [i for c in instruction.called_computation_ids for i in self._computations[c].instructions]
        return depth < _DEEP and all(i.opcode == "parameter" or self._moves(i, depth + 1) for i in inner)

    def _told(self, instruction: Any) -> Origin:
        name = self._name(instruction) or instruction.metadata.op_name
        return scope_of(name), operation_of(name)

    def _name(self, instruction: Any, depth: int = 0) -> str:
        """As an op, or what it consists of, was traced in a scope; "" where it was in none."""
        if scope_of(name := instruction.metadata.op_name):
            return name
        for computation in instruction.called_computation_ids if depth < _DEEP else ():
            for inner in reversed(self._computations[computation].instructions):
                if found := self._name(inner, depth + 1):
                    return found
        return ""

    def _handed_on(self, instruction: Any) -> Iterator[Any]:
        """What takes the result of an op, also in the computations that it is handed to."""
        for user in self._users.get(instruction.id, ()):
            yield user
            places = [i for i, operand in enumerate(user.operand_ids) if operand == instruction.id]
            for called in user.called_computation_ids if user.opcode in _CALLS else ():
                inner = (i for i in self._computations[called].instructions if i.opcode == "parameter")
                yield from (i for i in inner if i.parameter_number in places)

    def _made_from(self, instruction: Any) -> Any | None:
        """What comes first into an op, also from outside of the computation that it is in."""
        caller = self._callers.get(self._within[instruction.id])
        if instruction.opcode == "parameter" and caller and instruction.parameter_number < len(caller.operand_ids):
            return self.by_id[caller.operand_ids[instruction.parameter_number]]
        return self.by_id[instruction.operand_ids[0]] if instruction.operand_ids else None
