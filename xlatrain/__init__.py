"""xlatrain: image classifiers on TPU pods with PyTorch/XLA, rehearsed on a laptop.

    import xlatrain

    run = xlatrain.check(["model=efficientnet_b0", "data=digits", "train.duration=2ep"])   # no device is touched
    summary = xlatrain.train(run)                                                           # or train([...]) at once
    xlatrain.evaluate([f"weights={summary['run']}/weights.safetensors"])["top1"]
    xlatrain.plan(["model=efficientnet_b2", "cluster=tpu_v3_1024", "train.global_batch=32768"]).step_ms
    xlatrain.export(run, "bundle")                                                          # to be run by JAX alone

`launch` runs a function of one's own on N replicas, `CapturedStep` captures and replays a step function there, of
tensors that `to_device` brings; `all_reduce` and `mean_over_replicas` go between replicas. Each is imported when it is
first asked for: what touches a device is not, in a process that only checks.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from xlatrain.version import VERSION

if TYPE_CHECKING:
    from xlatrain.bundle.export import export
    from xlatrain.bundle.read import read_bundle
    from xlatrain.engine.predict import predict
    from xlatrain.engine.run import evaluate, train
    from xlatrain.errors import CaptureError, ConfigError, DataError, ReplicaError
    from xlatrain.formats.export_weights import export_weights
    from xlatrain.planning.plan import plan
    from xlatrain.preflight.check import check, check_evaluation
    from xlatrain.xla.capture import CapturedStep
    from xlatrain.xla.collectives import all_reduce, mean_over_replicas
    from xlatrain.xla.launch import launch
    from xlatrain.xla.transfer import to_device

__version__ = VERSION

_FACE = {
    "check": "xlatrain.preflight.check",
    "check_evaluation": "xlatrain.preflight.check",
    "train": "xlatrain.engine.run",
    "evaluate": "xlatrain.engine.run",
    "plan": "xlatrain.planning.plan",
    "predict": "xlatrain.engine.predict",
    "export": "xlatrain.bundle.export",
    "export_weights": "xlatrain.formats.export_weights",
    "read_bundle": "xlatrain.bundle.read",
    "CapturedStep": "xlatrain.xla.capture",
    "launch": "xlatrain.xla.launch",
    "to_device": "xlatrain.xla.transfer",
    "all_reduce": "xlatrain.xla.collectives",
    "mean_over_replicas": "xlatrain.xla.collectives",
    "CaptureError": "xlatrain.errors",
    "ConfigError": "xlatrain.errors",
    "DataError": "xlatrain.errors",
    "ReplicaError": "xlatrain.errors",
}

__all__ = [
    "CaptureError",
    "CapturedStep",
    "ConfigError",
    "DataError",
    "ReplicaError",
    "__version__",
    "all_reduce",
    "check",
    "check_evaluation",
    "evaluate",
    "export",
    "export_weights",
    "launch",
    "mean_over_replicas",
    "plan",
    "predict",
    "read_bundle",
    "to_device",
    "train",
]


def __getattr__(name: str) -> Any:
    if name not in _FACE:
        raise AttributeError(f"module 'xlatrain' has no attribute {name!r}")
    found = getattr(importlib.import_module(_FACE[name]), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return __all__
