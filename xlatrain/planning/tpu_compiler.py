"""A program to an executable of a real TPU slice, by the TPU's own compiler, without a TPU.

Runs as a process of its own, since jax and torch_xla each bring a runtime: python -m xlatrain.planning.tpu_compiler
FOLDER reads FOLDER/request.json and program.pb, writes FOLDER/result.json and optimised.hlo.
"""

from __future__ import annotations

import json
import os
import re
import signal
import sys
from pathlib import Path

from xlatrain.files import write_json
from xlatrain.signals import ask_for_at_end_of_parent
from xlatrain.xla.stablehlo import to_stablehlo

# libtpu asks where it runs; any host of any slice will do, since nothing is run.
_ENVIRONMENT = {
    "TPU_SKIP_MDS_QUERY": "1",
    "JAX_PLATFORMS": "cpu",
    "TPU_ACCELERATOR_TYPE": "v5litepod-8",
    "TPU_WORKER_HOSTNAMES": "localhost",
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",  # else a lock file in /tmp lets only one plan compile at a time
    "TPU_MIN_LOG_LEVEL": "3",
    "TF_CPP_MIN_LOG_LEVEL": "2",
}


def main(folder: Path) -> None:
    """Compile what the folder asks for. A program that does not fit is a result, not an error."""
    os.environ.update(_ENVIRONMENT)
    ask_for_at_end_of_parent(signal.SIGKILL)  # or it would compile on for nobody
    import numpy as np
    from jax.experimental import topologies
    from jaxlib import _jax, xla_client

    request = json.loads((folder / "request.json").read_text())
    replicas = request["replicas"]
    slice_ = topologies.get_topology_desc(platform="tpu", topology_name=request["topology"], **request["options"])
    devices = slice_.devices
    if len(devices) < replicas:
        raise SystemExit(f"topology {request['topology']} has {len(devices)} devices, the run {replicas} replicas")
    options = xla_client.CompileOptions()
    options.num_replicas, options.num_partitions = replicas, 1
    options.device_assignment = xla_client.DeviceAssignment.create(np.arange(replicas).reshape(replicas, 1))
    aliases = {int(result): parameter for result, parameter in request["aliases"].items()}
    module = to_stablehlo((folder / "program.pb").read_bytes(), aliases)
    result = {"device_kind": devices[0].device_kind, "devices": len(devices)}
    try:
        program = devices[0].client.compile(module, _jax.DeviceList(tuple(devices[:replicas])), options)
    except _jax.XlaRuntimeError as error:
        over = _memory_exceeded(str(error))
        if over is None:
            raise
        result |= {"fits": False, **over, "message": str(error)[:2000]}
    else:
        stats = program.get_compiled_memory_stats()
        (folder / "optimised.hlo").write_text(program.hlo_modules()[0].to_string())
        result |= {
            "fits": True,
            "argument_bytes": stats.argument_size_in_bytes,
            "output_bytes": stats.output_size_in_bytes,
            "aliased_bytes": stats.alias_size_in_bytes,
            "temporary_bytes": stats.temp_size_in_bytes,
            "code_bytes": stats.generated_code_size_in_bytes,
        }
    write_json(folder / "result.json", result)


def _memory_exceeded(message: str) -> dict[str, int] | None:
    """Bytes used and available, from the compiler's complaint that a program does not fit; None for another error.
    Where one array alone is too large the compiler stops at it: the bytes are then the least that it needs."""
    alone = re.search(r"Allocation \(size=(\d+)\) would exceed memory \(size=(\d+)\)", message)
    if alone:
        return {"hbm_bytes": int(alone[1]), "hbm_capacity_bytes": int(alone[2])}
    found = re.search(r"Used ([\d.]+)([KMGT]?) of ([\d.]+)([KMGT]?) hbm", message)
    if not found:
        return None
    used, capacity = (float(found[i]) * 1024 ** " KMGT".index(found[i + 1] or " ") for i in (1, 3))
    return {"hbm_bytes": round(used), "hbm_capacity_bytes": round(capacity)}


if __name__ == "__main__":
    main(Path(sys.argv[1]))
