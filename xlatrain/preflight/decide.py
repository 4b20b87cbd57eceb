"""What the options leave open ("auto", null) and platform or batch decide, here and nowhere else: runtime, replicas,
workers, streams, the form of depthwise convolutions, the layout, steps in flight, batch norm groups, tiles; the rules
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
    """A phase with its batch norm groups and its tiles. model: as it is built for images of that size, if it can be."""
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
    from xlatrain.models.tiles import stem_size  # with timm, which a model without faults has imported

    try:
        return replace(phase, tiles=_tiles(config, stem_size(model, phase.image_size), max(1, images), phase)), faults
    except ValueError as error:
        problem, _, cure = str(error).partition("; ")
        return phase, [*faults, Fault("model.tiles", problem, cure or "take model.tiles=1 or another number")]


def _tiles(config: Config, size: int | None, images: int, phase: Phase) -> tuple[int, int]:
    """Rows and columns of tiles. size: of the images after the stem, None where tiles are not possible. Raises
    ValueError."""
    wanted = config.model.tiles
    if wanted == 1 or (wanted is None and (size is None or config.cluster.platform != "tpu")):
        return 1, 1
    if size is None:
        where = f"the first layers of {config.model.name} at {phase.image_size} pixels"
        raise ValueError(f"{where} cannot be tiled; take model.tiles=1 or leave it out")
    from xlatrain.models.tiles import choose_grid

    grid = choose_grid(images, size, wanted)
    return grid.rows, grid.columns
