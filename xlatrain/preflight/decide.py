"""What the options leave open ("auto", null) and platform or batch decide, here and nowhere else: runtime, replicas,
workers, streams, the form of depthwise convolutions, the layout, steps in flight, batch norm groups, folds; the rules
of the last two are in models/. What lengths decide is in resolve.py."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING

from xlatrain.config.data import DataConfig, ImagesConfig
from xlatrain.config.schema import Config
from xlatrain.data.order import streams_for
from xlatrain.data.phase import Phase
from xlatrain.errors import Fault
from xlatrain.models.bn_groups import group_size, replica_groups
from xlatrain.preflight.gpus import count_gpus
from xlatrain.preflight.hosts import with_hosts

if TYPE_CHECKING:
    from torch import nn


# XLA:CPU is slow at native depthwise convolutions, a TPU at those of few channels; for a GPU cuDNN has its own.
_DEPTHWISE = {"cpu": "shift", "tpu": "dense", "gpu": "native"}


def decide(config: Config, starts: bool) -> Config:
    """The configuration with what follows from its cluster alone: runtime, workers, streams, the form of depthwise
    convolutions, the layout, steps in flight; and from this machine, where the run is one that starts: which of several
    it is, and on GPU the replicas."""
    platform, model, engine = config.cluster.platform, config.model, config.engine
    if engine.runtime is None:
        engine = replace(engine, runtime="jax" if platform == "gpu" else "torch_xla")
    cluster = with_hosts(config.cluster) if starts and engine.runtime == "jax" else config.cluster
    if cluster.replicas is None:
        cluster = replace(cluster, replicas=max(1, count_gpus()) * (cluster.hosts or 1) if platform == "gpu" else 1)
    config = replace(config, cluster=cluster)
    if model.depthwise == "auto":
        model = replace(model, depthwise=_DEPTHWISE[platform])
    if model.layout == "auto":
        last = platform == "cpu" and model.depthwise == "shift"
        model = replace(model, layout="channels_last" if last else "channels_first")
    if engine.in_flight is None:
        engine = replace(engine, in_flight=1 if platform == "cpu" else 2)
    return replace(config, data=_with_readers(config), model=model, engine=engine)


def _with_readers(config: Config) -> DataConfig:
    """Workers: a thread on CPU, whose cores the replicas need; else all cores of the process but one. Streams: as
    many as read, of all machines."""
    data, cluster = config.data, config.cluster
    if not isinstance(data, ImagesConfig):
        return data
    workers, processes = data.workers, cluster.processes_per_host or 1
    if workers is None:
        workers = 0 if cluster.platform == "cpu" else max(1, (os.cpu_count() or 1) // processes - 1)
    streams = data.streams
    if streams is None:
        streams = streams_for((cluster.hosts or 1) * processes * max(1, workers))
    return replace(data, workers=workers, streams=streams)


def decide_phase(config: Config, phase: Phase, model: nn.Module | None) -> tuple[Phase, list[Fault]]:
    """A phase with its batch norm groups, and whether its images are folded. model: as it is built for images of that
    size, if it can be."""
    replicas, faults = max(config.cluster.replicas, 1), []
    images = phase.global_batch // (replicas * max(config.gradient.accumulate, 1))  # of a replica, in a micro-batch
    try:
        group = group_size(config.model.sync_bn_group, replicas, images)
        replica_groups(replicas, group, config.cluster.torus_width)
        phase = replace(phase, bn_group=group)
    except ValueError as error:
        problem, _, cure = str(error).partition("; ")
        cure = cure or "take another size, or no cluster.torus_width"
        faults.append(Fault("model.sync_bn_group", problem, cure))
    if model is None:
        return phase, faults
    try:
        phase = replace(phase, fold=_fold(config, model, phase))
    except ValueError as error:
        faults.append(Fault("model.fold", str(error), "leave it out, or take model.fold=false"))
    return phase, faults


def _fold(config: Config, model: nn.Module, phase: Phase) -> bool:
    """Whether the first stages work on folded images. Raises ValueError where that is asked for and cannot be."""
    wanted = config.model.fold
    if wanted is False or (wanted is None and config.cluster.platform != "tpu"):
        return False
    from xlatrain.models.folding.choose import choose_folds  # with timm, which a model without faults has imported

    found = choose_folds(model, phase.image_size) is not None
    if wanted and not found:
        raise ValueError(f"{config.model.name} at {phase.image_size} pixels has no layers that could be folded")
    return found
