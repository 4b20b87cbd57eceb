"""Trains as the bundle in this file's folder says, with JAX alone: python run.py [TRAIN.npz [EVAL.npz]].

An .npz holds images uint8 [steps, batch, size, size, 3], labels int64 and skipped float32 [steps, batch], for an
evaluation also mask float32, of all replicas together. Without one three batches of noise are taken. What was trained
is written to weights.safetensors. Needs jax, numpy and safetensors. JAX_PLATFORMS=cpu runs on CPU what is for GPU.
"""

import functools
import json
import math
import os
import sys
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save_file

folder = Path(__file__).parent
manifest = json.loads((folder / "manifest.json").read_text())
steps, replicas = manifest["steps"], manifest["replicas"]
if "cpu" in (manifest["platform"], os.environ.get("JAX_PLATFORMS")):  # one process with a device for each replica
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count={replicas}"
    os.environ |= {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": flags}
import jax
from jaxlib import _jax, xla_client

jax.config.update("jax_enable_x64", True)  # labels and counts are int64
devices = jax.devices()[:replicas]
mesh = jax.sharding.Mesh(np.array(devices), ("replica",))
options = xla_client.CompileOptions()
options.num_replicas, options.num_partitions = replicas, 1
options.device_assignment = xla_client.DeviceAssignment.create(np.array([[d.id] for d in devices]))


@functools.cache
def program(name):
    content = (folder / steps[name]["program"]).read_bytes()
    return devices[0].client.compile_and_load(content, _jax.DeviceList(tuple(devices)), options)


def joined(parts):  # of a list with a part for each device, one array as a program takes it
    parts = [jax.device_put(part, device) for part, device in zip(parts, devices, strict=True)]
    axes, shape = (["replica"], (replicas * len(parts[0]), *parts[0].shape[1:])) if parts[0].ndim else ([], ())
    sharding = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec(*axes))
    return jax.make_array_from_single_device_arrays(shape, sharding, parts)


def first_values(name, trained):  # what a step is first given: by its file, and of what is trained
    tensors = load_file(folder / steps[name]["tensors"]) if steps[name]["tensors"] else {}
    own = {"carry.rng": joined(tensors.pop("seeds"))} if "seeds" in tensors else {}
    found = own | {key: joined([tensor] * replicas) for key, tensor in tensors.items()}
    return found | {a["name"]: trained[a["source"]] for a in steps[name]["arguments"] if a["source"] in trained}


def run(name, values, batch):  # one step, which brings the values up to date
    fed = values | {f"inputs.{key}": joined(np.split(rows, replicas)) for key, rows in batch.items()}
    produced = program(name).execute_sharded([fed[argument["name"]] for argument in steps[name]["arguments"]])
    parts = produced.disassemble_into_single_device_arrays()
    for result in steps[name]["results"]:
        number, same = result["result"], result["argument"]
        values[result["name"]] = fed[same] if number is None else joined(parts[number])


def numbers(name, values):
    found = np.asarray(values[steps[name]["of"]].addressable_data(0)).tolist()
    return dict(zip(steps[name]["values"], found, strict=True))


def batches(name, file):
    kinds = {a["name"].removeprefix("inputs."): a for a in steps[name]["arguments"] if a["source"] == "batch"}
    shapes = {key: (3, replicas * kind["shape"][0], *kind["shape"][1:]) for key, kind in kinds.items()}
    noise = np.random.default_rng(0)
    arrays = {key: noise.integers(256 if key == "images" else 2, size=shape) for key, shape in shapes.items()}
    arrays = np.load(file) if file else arrays
    for rows in zip(*(arrays[key].astype(kind["dtype"]) for key, kind in kinds.items()), strict=True):
        yield dict(zip(kinds, rows, strict=True))


train_file, eval_file = [*sys.argv[1:], None, None][:2]
values = first_values("train", {})
for number, batch in enumerate(batches("train", train_file), 1):
    run("train", values, batch)
    print(json.dumps({"step": number, **numbers("train", values)}), flush=True)
if "statistics" in steps:  # replicas have their own where not all share those of batch norm: their mean
    equal = first_values("statistics", values)
    run("statistics", equal, {})
    values |= {result["name"]: equal[result["name"]] for result in steps["statistics"]["results"]}
if eval_file:
    sums = first_values("eval", values)
    for batch in batches("eval", eval_file):
        run("eval", sums, batch)
    print(json.dumps({"eval": numbers("eval", sums)}), flush=True)
tensors = {}
for weight in manifest["weights"]:  # where each tensor of the model lies in what is carried
    flat = np.asarray(values[weight["of"]].addressable_data(0)).reshape(-1)[weight["start"] :]
    tensor = flat[: math.prod(weight["shape"])].reshape(weight["shape"])
    tensors[weight["name"]] = tensor.transpose(weight["axes"] or range(tensor.ndim)).copy()
save_file(tensors, "weights.safetensors", {"xlatrain": json.dumps(manifest["facts"])})
