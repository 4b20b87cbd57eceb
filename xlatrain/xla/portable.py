"""A portable StableHLO program run by JAX on this machine's CPU, as who receives it would. Needs the extra jax."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def run_portable(content: bytes, calls: Sequence[Sequence[np.ndarray]]) -> list[list[np.ndarray]]:
    """Compile a program for one device, and run it for each call's arguments, in the program's order. Returns the
    results of each."""
    import jax
    from jaxlib import _jax, xla_client

    jax.config.update("jax_platforms", "cpu")  # where JAX_PLATFORMS came too late, it asks for TPUs, for minutes
    device = jax.devices("cpu")[0]
    program = device.client.compile_and_load(content, _jax.DeviceList((device,)), xla_client.CompileOptions())
    found = []
    for arguments in calls:
        given = [jax.device_put(argument, device) for argument in arguments]
        produced = program.execute_sharded(given).disassemble_into_single_device_arrays()
        found.append([np.asarray(parts[0]) for parts in produced])
    return found
