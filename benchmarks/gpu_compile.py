"""Does XLA's compiler for NVIDIA GPUs take the programs of a bundle? Compiled for an H100, without a GPU.

    xlatrain export step out=bundle cluster=gpu cluster.replicas=4
    python benchmarks/gpu_compile.py bundle [--json FILE]

Needs xlatrain[cuda], whose plugin holds the compiler, and no driver. What is tuned by trying on the device is not, so
that what is compiled is correct but no measure of anything: nothing is run.

Evidence: the commands above, the digits' model, 2 idle CPU cores, jax 0.7.1, 24 Nov 2026: the train step compiles in 7
s, the evaluation in 1; the state, 1.8 MB, is written over in place, and the train step takes 3.8 MB beside it.
"""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path

from xlatrain.bundle.read import read_bundle
from xlatrain.files import write_json

# As XLA describes the card to its compiler (xla/stream_executor/device_description.proto).
H100 = """
gpu_device_info {
  threads_per_block_limit: 1024 threads_per_warp: 32 shared_memory_per_block: 49152 shared_memory_per_core: 233472
  threads_per_core_limit: 2048 core_count: 132 fpus_per_core: 128 block_dim_limit_x: 2147483647
  block_dim_limit_y: 65535 block_dim_limit_z: 65535 memory_bandwidth: 3352320000000 l2_cache_size: 52428800
  clock_rate_ghz: 1.98 device_memory_size: 84978434048 shared_memory_per_block_optin: 232448
  cuda_compute_capability { major: 9 } registers_per_core_limit: 65536 registers_per_block_limit: 65536
}
platform_name: "CUDA"
dnn_version_info { major: 9 minor: 10 patch: 2 }
device_description_str: "NVIDIA H100 80GB HBM3"
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    os.environ |= {"JAX_PLATFORMS": "cpu", "JAX_SKIP_CUDA_CONSTRAINTS_CHECK": "1"}
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --xla_gpu_autotune_level=0"
    import jax
    import numpy as np
    from jax.experimental import topologies
    from jaxlib import _jax, xla_client

    bundle, found = read_bundle(arguments.bundle), {}
    replicas = bundle.manifest.replicas
    jax.devices()  # finds the plugins
    devices = topologies.get_topology_desc("", "cuda", target_config=H100, topology=f"1x1x{replicas}").devices
    options = xla_client.CompileOptions()
    options.num_replicas, options.num_partitions = replicas, 1
    options.device_assignment = xla_client.DeviceAssignment.create(np.arange(replicas).reshape(replicas, 1))
    for name, content in bundle.programs.items():
        started = time.perf_counter()
        program = devices[0].client.compile(content, _jax.DeviceList(tuple(devices)), options)
        stats = program.get_compiled_memory_stats()
        found[name] = {
            "seconds": round(time.perf_counter() - started, 1),
            "argument_bytes": stats.argument_size_in_bytes,
            "aliased_bytes": stats.alias_size_in_bytes,
            "temporary_bytes": stats.temp_size_in_bytes,
        }
        print(f"{name} for {devices[0].device_kind}:", ", ".join(f"{k} {v:,}" for k, v in found[name].items()))
    if arguments.json:
        write_json(arguments.json, found)


if __name__ == "__main__":
    main()
