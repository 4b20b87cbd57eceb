"""What was made of a run's options, in words."""

from __future__ import annotations

import os
from collections.abc import Iterator

from xlatrain.data.phase import Phase
from xlatrain.engine.state import ModelLayout
from xlatrain.models.bn_groups import BOX_FROM
from xlatrain.optim.create import describe_optimizer
from xlatrain.optim.reduce import describe_gradient
from xlatrain.preflight.checked import CheckedRun
from xlatrain.preflight.lengths import Lengths
from xlatrain.preflight.resolve import describe_learning_rate


def describe_run(run: CheckedRun, layout: ModelLayout) -> Iterator[str]:
    """Lines for the log, before the first step."""
    config = run.config
    yield layout.parameters.describe_groups()
    yield describe_learning_rate(config, run.schedule)
    yield from describe_statistics(run)
    for text in (describe_optimizer(config.optimizer), describe_gradient(config.gradient)):
        if text:
            yield text


def describe_cache(run: CheckedRun) -> str | None:
    """That what is compiled is not kept, for the log, where nobody asks for a cache by torch_xla's own variable."""
    if run.config.engine.runtime != "torch_xla" or "XLA_PERSISTENT_CACHE_PATH" in os.environ:
        return None
    return (
        "compile cache: off, since torch_xla writes programs that it cannot read (pytorch/xla#9094): each start "
        "compiles anew, for the seconds that are said of each step, capture_seconds of summary.json in all"
    )


def describe_statistics(run: CheckedRun) -> Iterator[str]:
    """Who shares batch norm statistics, where some do and not all, and whether they are known to be near each other."""
    cluster = run.config.cluster
    for size in sorted({phase.bn_group for phase in run.phases} - {1, cluster.replicas}):
        text = f"batch norm statistics are those of groups of {size} replicas"
        if cluster.torus_width and size > BOX_FROM:
            text += f", boxes of a torus whose rows hold {cluster.torus_width} in the order of their numbers"
        elif cluster.platform == "tpu":
            text += ", neighbours by number; that these are neighbours on the torus is not known (cluster.torus_width)"
        yield text


def describe_phase(lengths: Lengths, phase: Phase) -> str:
    steps = lengths.steps_per_epoch(phase)
    return f"{phase.image_size} px, batch {phase.global_batch:,}, {steps:,.1f} steps an epoch"
