"""A profile as XLA writes it, an XSpace: which ops ran for how long, and which modules of the model they are of.

Of the two formats (xplane.proto of tsl, hlo.proto of xla) the fields that are read are declared here; no package that
is installed with torch_xla or jax brings them for Python.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from xlatrain.xla.op_origins import find_origins

# Messages with their fields: number, type; a type with a capital is another message, [] a repeated field.
_FORMAT = {
    "XSpace": {"planes": (1, "XPlane[]")},
    "XPlane": {
        "name": (2, "string"),
        "lines": (3, "XLine[]"),
        "event_metadata": (4, "EventEntry[]"),  # maps travel as lists of pairs
        "stat_metadata": (5, "StatEntry[]"),
    },
    "XLine": {"name": (2, "string"), "events": (4, "XEvent[]")},
    "XEvent": {
        "metadata_id": (1, "int64"),
        "offset_ps": (2, "int64"),
        "duration_ps": (3, "int64"),
        "stats": (4, "XStat[]"),
    },
    "XStat": {"metadata_id": (1, "int64"), "str_value": (5, "string"), "bytes_value": (6, "bytes"),
              "ref_value": (7, "uint64")},
    "EventEntry": {"key": (1, "int64"), "value": (2, "XEventMetadata")},
    "XEventMetadata": {"name": (2, "string"), "display_name": (4, "string"), "stats": (5, "XStat[]")},
    "StatEntry": {"key": (1, "int64"), "value": (2, "XStatMetadata")},
    "XStatMetadata": {"name": (2, "string")},
    "HloProto": {"hlo_module": (1, "HloModuleProto")},
    "HloModuleProto": {"name": (1, "string"), "computations": (3, "HloComputationProto[]")},
    "HloComputationProto": {"instructions": (2, "HloInstructionProto[]"), "id": (5, "int64")},
    "HloInstructionProto": {
        "name": (1, "string"),
        "opcode": (2, "string"),
        "metadata": (7, "OpMetadata"),
        "parameter_number": (9, "int64"),
        "id": (35, "int64"),
        "operand_ids": (36, "int64[]"),
        "called_computation_ids": (38, "int64[]"),
    },
    "OpMetadata": {"op_name": (2, "string")},
}  # fmt: skip


@dataclass(frozen=True)
class Op:
    """An op of a compiled program. scope: the module of the model, or part of the step, that it comes from, "" where
    that is not known. operation: PyTorch's, or XLA's where it has none. name: as the program has it. ms: in all, what
    runs within it left out, on every device and thread of the process. calls: how often it ran."""

    scope: str
    operation: str
    name: str
    ms: float
    calls: int


def read_ops(path: Path) -> list[Op]:
    """The ops of a profile, the dearest first. path: an .xplane.pb. Raises OSError, and ValueError where it is none."""
    space = _parse("XSpace", path.read_bytes())
    names = {module: origins for plane in space.planes for module, origins in _programs(plane)}
    names[""] = {op: origin for origins in names.values() for op, origin in origins.items()}  # of an unnamed program
    picoseconds: dict[tuple[str, str], list[int]] = {}
    for plane in space.planes:
        for line in plane.lines:
            for key, own in _own_times(plane, line):
                found = picoseconds.setdefault(key, [0, 0])
                found[0] += own
                found[1] += 1
    ops = []
    for (module, name), (own, calls) in picoseconds.items():
        scope, operation = names.get(module, {}).get(name, ("", ""))
        ops.append(Op(scope, operation or name.partition(".")[0], name, own / 1e9, calls))
    return sorted(ops, key=lambda op: -op.ms)


def _own_times(plane: Any, line: Any) -> Iterator[tuple[tuple[str, str], int]]:
    """Each run of an op in a line of a profile: (program, op), and its picoseconds without what ran within it."""
    stats = {entry.key: entry.value.name for entry in plane.stat_metadata}
    events = {entry.key: entry.value for entry in plane.event_metadata}
    open_ops: list[list[Any]] = []  # key, end, own time
    for event in sorted(line.events, key=lambda e: (e.offset_ps, -e.duration_ps)):
        key = _op_of(event, events.get(event.metadata_id), stats, plane, line)
        if key is None:
            continue
        while open_ops and open_ops[-1][1] <= event.offset_ps:
            done = open_ops.pop()
            yield done[0], done[2]
        if open_ops:
            open_ops[-1][2] -= event.duration_ps
        open_ops.append([key, event.offset_ps + event.duration_ps, event.duration_ps])
    yield from ((key, own) for key, _, own in reversed(open_ops))


def _op_of(event: Any, metadata: Any, stats: Mapping[int, str], plane: Any, line: Any) -> tuple[str, str] | None:
    """The program and the op that an event is a run of; None where it is of something else. On a CPU each says both; on
    a TPU there is a line of ops, by their names."""
    told = {stats.get(s.metadata_id): s.str_value or stats.get(s.ref_value, "") for s in event.stats}
    if "hlo_op" in told:
        return told.get("hlo_module", ""), told["hlo_op"]
    if plane.name.startswith("/device:") and line.name == "XLA Ops" and metadata is not None:
        name = metadata.display_name or metadata.name.partition(" = ")[0]
        return told.get("hlo_module", ""), name.lstrip("%")
    return None


def _programs(plane: Any) -> Iterator[tuple[str, dict[str, tuple[str, str]]]]:
    """The programs that a profile holds, by name: of each op the scope and the operation."""
    for entry in plane.event_metadata:
        for stat in entry.value.stats:
            if stat.bytes_value:
                module = _parse("HloProto", stat.bytes_value).hlo_module
                yield module.name, find_origins(module.computations)


def _parse(message: str, content: bytes) -> Any:
    from google.protobuf.message import DecodeError

    try:
        return _messages()[message].FromString(content)
    except DecodeError as error:
        raise ValueError(f"not a profile: {error}") from None


@cache
def _messages() -> dict[str, Any]:
    """A class for each message."""
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

    kinds = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(name="xlatrain_profile.proto", package="xlatrain", syntax="proto3")
    for name, fields in _FORMAT.items():
        message = file.message_type.add(name=name)
        for field, (number, kind) in fields.items():
            base = kind.removesuffix("[]")
            label = kinds.LABEL_REPEATED if kind.endswith("[]") else kinds.LABEL_OPTIONAL
            added = message.field.add(name=field, number=number, label=label)
            if base[0].isupper():
                added.type, added.type_name = kinds.TYPE_MESSAGE, f".xlatrain.{base}"
            else:
                added.type = getattr(kinds, f"TYPE_{base.upper()}")
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {n: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"xlatrain.{n}")) for n in _FORMAT}
