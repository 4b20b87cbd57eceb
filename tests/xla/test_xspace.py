"""Ops of a profile: their own times, and the modules that they come from, by the two ways in which they are said."""

import pytest

from xlatrain.xla import xspace
from xlatrain.xla.op_names import operation_of, scope_of

INSTRUCTIONS = [  # id, name, operands, op_name
    (1, "p0", [], ""),
    (2, "conv.1", [1], "model.3/blocks.0.7/aten__convolution_overrideable.2"),
    (3, "copy.4", [2], ""),  # of the compiler's own, made from what is known
    (4, "add.9", [1], "optimizer.LARS.1/aten__add"),
]


def message(kind, **fields):
    return xspace._messages()[kind](**fields)


def space(plane_name, line_name, events, event_names=(), stats=()):
    """A profile of one program and one line. events: (metadata, start, length, {stat: text})."""
    made = [
        message("HloInstructionProto", id=i, name=name, operand_ids=made_of, metadata=message("OpMetadata", op_name=op))
        for i, name, made_of, op in INSTRUCTIONS
    ]
    module = message("HloModuleProto", name="step", computations=[message("HloComputationProto", instructions=made)])
    program = message("XStat", metadata_id=1, bytes_value=message("HloProto", hlo_module=module).SerializeToString())
    held = message("EventEntry", key=1, value=message("XEventMetadata", name="step(0)", stats=[program]))
    named = [
        message("EventEntry", key=key, value=message("XEventMetadata", name=name, display_name=shown))
        for key, name, shown in event_names
    ]
    told = [message("StatEntry", key=key, value=message("XStatMetadata", name=name)) for key, name in stats]
    keys = {name: key for key, name in stats}
    rows = [
        message(
            "XEvent",
            metadata_id=metadata,
            offset_ps=start,
            duration_ps=length,
            stats=[message("XStat", metadata_id=keys[k], str_value=v) for k, v in said.items()],
        )
        for metadata, start, length, said in events
    ]
    line = message("XLine", name=line_name, events=rows)
    planes = [
        message("XPlane", name="/host:metadata", event_metadata=[held]),
        message("XPlane", name=plane_name, lines=[line], event_metadata=named, stat_metadata=told),
    ]
    return message("XSpace", planes=planes).SerializeToString()


def read(tmp_path, content):
    (tmp_path / "x.xplane.pb").write_bytes(content)
    return [(op.scope, op.operation, op.name, op.ms, op.calls) for op in xspace.read_ops(tmp_path / "x.xplane.pb")]


def test_on_a_cpu_each_event_says_its_op_and_what_runs_within_it_is_left_out(tmp_path):
    of = lambda op: {"hlo_op": op, "hlo_module": "step"}  # noqa: E731
    events = [
        (9, 0, 50 * 10**9, of("conv.1")),
        (9, 10**9, 20 * 10**9, of("copy.4")),
        (9, 60 * 10**9, 10**9, of("copy.4")),
        (9, 70 * 10**9, 5 * 10**9, of("unknown.7")),
        (9, 0, 99 * 10**9, {}),  # a thread's own, no op
    ]
    found = read(tmp_path, space("/host:CPU", "a thread", events, stats=[(1, "hlo_op"), (2, "hlo_module")]))
    assert found == [
        ("blocks.0", "convolution", "conv.1", 30.0, 1),
        ("blocks.0", "copy", "copy.4", 21.0, 2),
        ("", "unknown", "unknown.7", 5.0, 1),
    ]


def test_on_a_tpu_there_is_a_line_of_ops_by_their_names(tmp_path):
    names = [(7, "%conv.1 = f32[8]{0} convolution(...)", ""), (8, "%add.9 = f32[8]{0} add(...)", "add.9")]
    events = [(7, 0, 3 * 10**9, {}), (8, 3 * 10**9, 10**9, {})]
    assert read(tmp_path, space("/device:TPU:0", "XLA Ops", events, names)) == [
        ("blocks.0", "convolution", "conv.1", 3.0, 1),
        ("optimizer.LARS", "add", "add.9", 1.0, 1),
    ]
    assert read(tmp_path, space("/device:TPU:0", "Steps", events, names)) == []


@pytest.mark.parametrize(
    ("name", "scope", "operation"),
    [
        ("model.1/blocks.0.3/aten__convolution_overrideable.12", "blocks.0", "convolution"),
        ("aten__mul.159/aten__mul", "", "mul"),
        ("xla__cross_replica_sum", "", "cross_replica_sum"),
        ("", "", ""),
    ],
)
def test_a_name_says_scope_and_operation(name, scope, operation):
    assert (scope_of(name), operation_of(name)) == (scope, operation)
