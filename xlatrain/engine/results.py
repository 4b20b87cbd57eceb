"""What a run leaves when it has trained to its end: weights, programs, and what it ran on in its summary."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from xlatrain.engine.build import HostModel
from xlatrain.engine.contract import TrainState
from xlatrain.engine.provenance import used_by, versions
from xlatrain.engine.weights import save_weights
from xlatrain.models.create import timm_arguments
from xlatrain.preflight.checked import CheckedRun
from xlatrain.preflight.facts import describe_weights
from xlatrain.xla.replica import Replica


def describe_machinery(replica: Replica, run: CheckedRun) -> dict[str, Any]:
    """For the summary: replicas, batch, and what should happen rarely."""
    counts = replica.counts("train step", "eval step")
    return {
        "replicas": replica.world_size,
        "global_batch": run.config.train.global_batch,
        "compiles": {name.removesuffix(" step"): n for name, n in counts.compiles.items()},
        "other_compiles": counts.other_compiles,
        "cpu_fallbacks": counts.cpu_fallbacks,
        "device_reads": counts.device_reads,
    }


def write_weights(
    folder: Path, run: CheckedRun, model: HostModel, state: TrainState, say: Callable[[str], None]
) -> dict[str, str]:
    """Write the weights of a state on the host; returns the checksum of each file by its name."""
    config, data = run.config, run.dataset
    arguments = timm_arguments(config.model, data.num_classes, config.data.image_size)
    facts = describe_weights(config, data.num_classes, data.class_names, arguments, versions(used_by(config)))
    digests = save_weights(folder, state, model.layout, model.persistent(), facts)
    for name, digest in digests.items():
        say(f"saved {name}, sha256 {digest}")
    return digests


def write_programs(folder: Path, programs: Sequence[bytes | None]) -> None:
    """Write the train step's program of each phase, where it was kept."""
    for i, hlo in enumerate(programs):
        if hlo:
            name = "train_step.hlo.pb" if len(programs) == 1 else f"train_step_{i + 1}.hlo.pb"
            (folder / name).write_bytes(hlo)
