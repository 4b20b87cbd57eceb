"""Trains as the bundle in this file's folder says, with JAX alone: python run.py [TRAIN.npz [EVAL.npz]].

An .npz holds images uint8 [steps, batch, size, size, 3], labels int64 and skipped float32 [steps, batch], for an
evaluation also mask float32, of all replicas together. Without one three batches of noise are taken. What was trained
is written to weights.safetensors. Needs jax, numpy and safetensors.
"""

import json
import math
import os
import sys
from pathlib import Path


def main(train_file=None, eval_file=None):
    folder = Path(__file__).parent
    manifest = json.loads((folder / "manifest.json").read_text())
    steps, replicas = manifest["steps"], manifest["replicas"]
    if manifest["platform"] == "cpu":  # one process with a device for each replica
        more = f"--xla_force_host_platform_device_count={replicas}"
        os.environ |= {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": f"{os.environ.get('XLA_FLAGS', '')} {more}"}
    import jax
    import numpy as np
    from jaxlib import _jax, xla_client
    from safetensors.numpy import load_file, save_file

    jax.config.update("jax_enable_x64", True)  # labels and counts are int64
    devices = jax.devices()[:replicas]
    mesh = jax.sharding.Mesh(np.array(devices), ("replica",))
    options = xla_client.CompileOptions()
    options.num_replicas, options.num_partitions = replicas, 1
    options.device_assignment = xla_client.DeviceAssignment.create(np.array([[d.id] for d in devices]))
    programs = {}

    def everywhere(tensors):  # an array on each device, of a list with one for each
        return [jax.device_put(tensor, device) for tensor, device in zip(tensors, devices, strict=True)]

    def whole(parts):  # the same as one array, as a program takes it
        spec = ["replica"] if parts[0].ndim else []
        shape = (replicas * parts[0].shape[0], *parts[0].shape[1:]) if spec else ()
        sharding = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec(*spec))
        return jax.make_array_from_single_device_arrays(shape, sharding, parts)

    def first_values(name, trained):  # what a step is first given: by its file, and of what is trained
        tensors = load_file(folder / steps[name]["tensors"]) if steps[name]["tensors"] else {}
        found = {"carry.rng": everywhere(tensors.pop("seeds"))} if "seeds" in tensors else {}
        found |= {key: everywhere([tensor] * replicas) for key, tensor in tensors.items()}
        return found | {a["name"]: trained[a["source"]] for a in steps[name]["arguments"] if a["source"] in trained}

    def run(name, values, batch):  # one step, which brings the values up to date
        step = steps[name]
        if name not in programs:
            content = (folder / step["program"]).read_bytes()
            programs[name] = devices[0].client.compile_and_load(content, _jax.DeviceList(tuple(devices)), options)
        fed = values | {f"inputs.{key}": everywhere(np.split(rows, replicas)) for key, rows in batch.items()}
        arguments = [whole(fed[argument["name"]]) for argument in step["arguments"]]
        produced = programs[name].execute_sharded(arguments).disassemble_into_single_device_arrays()
        for result in step["results"]:
            same = result["result"] is None
            values[result["name"]] = fed[result["argument"]] if same else produced[result["result"]]

    def numbers(name, values):
        return dict(zip(steps[name]["values"], np.asarray(values[steps[name]["of"]][0]).tolist(), strict=True))

    def batches(name, file):
        shapes = {a["name"][7:]: a for a in steps[name]["arguments"] if a["source"] == "batch"}  # without "inputs."
        random = np.random.default_rng(0)
        arrays = dict(np.load(file)) if file else {
            key: random.integers(0, 256 if key == "images" else 2, (3, replicas * a["shape"][0], *a["shape"][1:]))
            for key, a in shapes.items()
        }  # fmt: skip
        for i in range(len(arrays["images"])):
            yield {key: arrays[key][i].astype(a["dtype"]) for key, a in shapes.items()}

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
        flat, shape = np.asarray(values[weight["of"]][0]).reshape(-1), weight["shape"]
        tensor = flat[weight["start"] :][: math.prod(shape)].reshape(shape)
        tensors[weight["name"]] = tensor.transpose(weight["axes"] or range(tensor.ndim)).copy()
    save_file(tensors, "weights.safetensors", {"xlatrain": json.dumps(manifest["facts"])})


if __name__ == "__main__":
    main(*sys.argv[1:])
