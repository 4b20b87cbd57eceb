"""What the server of warm processes imports (tests.warm): nothing here may touch a device or start a thread."""

import contextlib

import torch_xla.distributed.xla_multiprocessing
import torch_xla.stablehlo  # noqa: F401

with contextlib.suppress(ImportError):
    import jax  # noqa: F401

import xlatrain.engine.train  # noqa: F401
