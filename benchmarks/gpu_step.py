"""A train step on one GPU: images per second of the exported program by JAX, and of torch.compile, side by side.

    python benchmarks/gpu_step.py [--model resnet50,efficientnet_b0,efficientnet_b2] [--batch 256] [--json FILE]
    python benchmarks/gpu_step.py --bundles r50 b0 b2     # where only jax, torch, timm and safetensors are installed
    python benchmarks/gpu_step.py --platform cpu --model resnet18 --size 32 --batch 8 --steps 2 --rounds 1

Both train the same timm model by SGD in bf16 on noise that lies on the device, uint8 images that are normalised there;
PyTorch in channels_last under autocast. By default at the paper's sizes, 224 px, B2 260. Bundles are for one replica:

    xlatrain export step out=b0 cluster=gpu cluster.replicas=1 model=efficientnet_b0 precision=bf16 ema=off \\
        data=synthetic augment=none train.global_batch=256 train.duration=1000step

Rounds alternate and medians count; the first round compiles and warms up.

Evidence: NOT RUN ON A GPU. The third command, to see that it runs, 2 busy CPU cores, jax 0.7.1, torch 2.9.1, 24 Nov
2026: JAX 38 images/s, torch.compile 138; of 2 steps, and XLA:CPU is slow at convolutions.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

SIZES = {"efficientnet_b2": 260}  # pixels; the others 224
Block = Callable[[int], float]  # runs so many steps; returns seconds


def jax_block(folder: Path, manifest: dict, batch: dict[str, np.ndarray]) -> Block:
    """The program of the bundle on JAX's first device, its state written over from step to step."""
    import jax
    from jaxlib import _jax, xla_client
    from safetensors.numpy import load_file

    jax.config.update("jax_enable_x64", True)  # labels and counts are int64
    step, (device, *_) = manifest["steps"]["train"], jax.devices()
    options = xla_client.CompileOptions()
    options.num_replicas, options.num_partitions = 1, 1
    options.device_assignment = xla_client.DeviceAssignment.create(np.array([[device.id]]))
    content = (folder / step["program"]).read_bytes()
    program = device.client.compile_and_load(content, _jax.DeviceList((device,)), options)
    tensors = load_file(folder / step["tensors"])
    tensors["carry.rng"] = tensors.pop("seeds")[0]
    tensors |= {f"inputs.{name}": rows for name, rows in batch.items()}
    values = {name: jax.device_put(tensor, device) for name, tensor in tensors.items()}

    def run(steps: int) -> float:
        started = time.perf_counter()
        for _ in range(steps):
            fed = [values[argument["name"]] for argument in step["arguments"]]
            parts = program.execute_sharded(fed).disassemble_into_single_device_arrays()
            for result in step["results"]:
                if result["result"] is not None:
                    values[result["name"]] = parts[result["result"]][0]
        loss = np.asarray(values[step["of"]])[step["values"].index("loss")]  # waits
        assert np.isfinite(loss), f"the loss is {loss}"
        return time.perf_counter() - started

    return run


def torch_block(manifest: dict, batch: dict[str, np.ndarray], device: str) -> Block:
    """timm's model as PyTorch is fastest at it: compiled, channels_last, bf16 by autocast, fused SGD."""
    import timm
    import torch

    facts = manifest["facts"]["timm"]
    model = timm.create_model(**facts).to(device, memory_format=torch.channels_last).train()
    optimizer = torch.optim.SGD(
        model.parameters(), lr=1e-3, momentum=0.9, nesterov=True, fused=device == "cuda" or None
    )
    images, labels = (torch.from_numpy(batch[name]).to(device) for name in ("images", "labels"))
    mean, std = torch.tensor([127.5], device=device), torch.tensor([64.0], device=device)

    @torch.compile
    def forward(images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        with torch.autocast(device, torch.bfloat16):
            x = ((images.float() - mean) / std).permute(0, 3, 1, 2)
            return torch.nn.functional.cross_entropy(model(x).float(), labels)

    def run(steps: int) -> float:
        started = time.perf_counter()
        for _ in range(steps):
            optimizer.zero_grad(set_to_none=True)
            loss = forward(images, labels)
            loss.backward()
            optimizer.step()
        loss.item()  # waits
        return time.perf_counter() - started

    return run


def measure(folder: Path, steps: int, rounds: int, device: str) -> dict:
    """Both on the bundle's model, in turn: images per second, medians over rounds after the first."""
    manifest = json.loads((folder / "manifest.json").read_text())
    if manifest["replicas"] != 1:
        raise SystemExit(f"{folder} is for {manifest['replicas']} replicas; export it with cluster.replicas=1")
    kinds = {a["name"][7:]: a for a in manifest["steps"]["train"]["arguments"] if a["source"] == "batch"}
    random = np.random.default_rng(0)
    batch = {
        name: random.integers(256 if name == "images" else 10, size=kind["shape"]).astype(kind["dtype"])
        if name != "skipped"
        else np.zeros(kind["shape"], kind["dtype"])
        for name, kind in kinds.items()
    }
    blocks = {"jax": jax_block(folder, manifest, batch), "torch.compile": torch_block(manifest, batch, device)}
    seconds: dict[str, list[float]] = {name: [] for name in blocks}
    for number in range(rounds + 1):
        for name, block in blocks.items():
            took = block(steps)
            if number:
                seconds[name].append(took)
    images = steps * len(batch["images"])
    found = {
        "model": manifest["options"]["model"]["name"],
        "size": manifest["image_size"],
        "batch": len(batch["images"]),
    }
    return found | {name: round(images / statistics.median(took), 1) for name, took in seconds.items()}


def export(model: str, size: int, batch: int, platform: str, folder: Path) -> Path:
    """A bundle of one model, by xlatrain."""
    from xlatrain.bundle.export import export as write

    known = model.startswith("efficientnet_b")
    overrides = [f"model={model}" if known else f"model.name={model}", f"data.image_size={size}", "precision=bf16"]
    overrides += ["model.depthwise=native", f"cluster={platform}", "cluster.replicas=1", "ema=off"]
    overrides += ["data=synthetic", "augment=none", f"train.global_batch={batch}", "train.duration=1000step"]
    return write(overrides, folder / model)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bundles", type=Path, nargs="+", help="exported before; else each model is exported first")
    parser.add_argument("--model", default="resnet50,efficientnet_b0,efficientnet_b2")
    parser.add_argument("--size", type=int, help="pixels; by default the model's")
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--steps", type=int, default=50, help="of a round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--platform", choices=("gpu", "cpu"), default="gpu")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    cpu = arguments.platform == "cpu"
    # Each takes memory as it needs it; else JAX would take three quarters at once, and PyTorch have too little.
    more = {"JAX_PLATFORMS": "cpu" if cpu else "cuda", "XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
    results = []
    with tempfile.TemporaryDirectory() as temporary:
        bundles = arguments.bundles or [
            export(name, arguments.size or SIZES.get(name, 224), arguments.batch, arguments.platform, Path(temporary))
            for name in arguments.model.split(",")
        ]
        os.environ |= more
        for bundle in bundles:
            found = measure(bundle, arguments.steps, arguments.rounds, "cpu" if cpu else "cuda")
            results.append(found | {"jax / torch.compile": round(found["jax"] / found["torch.compile"], 3)})
            print(", ".join(f"{name} {value}" for name, value in results[-1].items()), flush=True)
    if arguments.json:
        arguments.json.write_text(json.dumps({"platform": arguments.platform, "results": results}, indent=2) + "\n")


if __name__ == "__main__":
    main()
