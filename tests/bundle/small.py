"""A bundle in small, whose programs nobody compiles."""

from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from xlatrain.bundle.manifest import Argument, Manifest, Result, Step
from xlatrain.checkpoint.weight import Weight
from xlatrain.engine.weights import sha256
from xlatrain.files import write_json


def write_small_bundle(folder: Path) -> dict:
    """Two replicas that train six numbers, a kernel [2, 1, 1, 3] among them. Returns what was written as manifest."""
    folder.mkdir()
    params = np.arange(8, dtype=np.float32)
    given = {"carry.params": params, "inputs.lr": np.ones(4, np.float32), "seeds": np.array([7, 2**60 + 1])}
    save_file(given, folder / "train.safetensors")
    (folder / "train.stablehlo").write_bytes(b"a program")
    step = Step(
        program="train.stablehlo",
        tensors="train.safetensors",
        arguments=(
            Argument("carry.params", "float32", (8,), "state"),
            Argument("inputs.lr", "float32", (4,), "table"),
            Argument("inputs.labels", "int64", (16,), "batch"),
            Argument("carry.rng", "int64", (), "seed"),
        ),
        results=(Result("carry.params", result=0), Result("carry.rng", result=1), Result("outputs.metrics", result=2)),
        aliases={0: 0},
        of="outputs.metrics",
        values=("loss",),
    )
    manifest = Manifest(
        platform="cpu",
        replicas=2,
        image_size=32,
        total_steps=4,
        local_batch={"train": 16},
        steps={"train": step},
        weights=(
            Weight("kernel", "carry.params", 2, (1, 3, 1, 2), (3, 2, 0, 1)),
            Weight("bias", "carry.params", 1, (1,)),
        ),
        facts={},
        options={},
        stablehlo="1.0.0",
        versions={},
        files={name: sha256(folder / name) for name in ("train.safetensors", "train.stablehlo")},
    )
    write_json(folder / "manifest.json", manifest.as_dict())
    return manifest.as_dict()
