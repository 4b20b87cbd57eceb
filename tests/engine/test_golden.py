"""The digits demo's first 20 steps, and the program that makes them, are those of the golden file.

Who moves code sees that nothing moved in the numbers. Who means to change them writes the file anew:
`python -m tests.engine.test_golden`.
"""

import hashlib
import json
import tempfile
from pathlib import Path

import pytest

import xlatrain

GOLDEN = Path(__file__).parent / "golden" / "digits.json"
OVERRIDES = [
    "train.duration=20step",
    "train.log_every=1step",
    "train.eval_every=20step",
    "engine.save_hlo=true",
    "run.name=golden",
]


def digits_demo(root):
    """Losses of each step, the SHA-256 of the train step as it was traced, and how many collectives are in it."""
    folder = Path(xlatrain.train([*OVERRIDES, f"run.root={root}"])["run"])
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    program = (folder / "train_step.hlo.pb").read_bytes()
    # HloInstructionProto.opcode: field 2, a string, with its length before it.
    counts = {op: program.count(b"\x12" + bytes([len(op)]) + op.encode()) for op in ("all-reduce", "all-gather")}
    losses = [row["loss"] for row in rows if row["kind"] == "train"]
    return {"program": hashlib.sha256(program).hexdigest(), "collectives": counts, "losses": losses}


@pytest.mark.replicas
def test_the_demo_is_what_it_was(tmp_path):
    """The program to the last byte: it does not depend on the machine. The losses, to the last digit on one machine, to
    1e-3 on another, whose compiler sums in another order, which 20 steps amplify."""
    golden, found = json.loads(GOLDEN.read_text()), digits_demo(tmp_path)
    assert len(found["losses"]) == 20
    assert found["losses"] == pytest.approx(golden["losses"], rel=1e-3)
    assert found["collectives"] == golden["collectives"]  # what travels beside gradients has none of its own
    assert found["program"] == golden["program"]


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        GOLDEN.write_text(json.dumps(digits_demo(folder), indent=1) + "\n")
