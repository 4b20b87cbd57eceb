"""Whether the replicas of a run begin alike."""

from __future__ import annotations

import torch

from xlatrain.engine.contract import Tensors, TrainState
from xlatrain.engine.step import compare_replicas
from xlatrain.errors import DataError, DivergenceError
from xlatrain.preflight.checked import CheckedRun
from xlatrain.xla.capture import CapturedStep
from xlatrain.xla.replica import Replica


def check_replicas_equal(replica: Replica, run: CheckedRun, state: Tensors, own_statistics: bool) -> None:
    """Compare weights, and how the data are cut, over all replicas, on the devices themselves. own_statistics: they may
    have running statistics of their own. Raises DivergenceError, DataError."""
    if replica.world_size == 1:
        return
    streams = getattr(run.config.data, "streams", None) or 0
    inputs = TrainState.of(state).raw_weights.tensors()
    if own_statistics:
        del inputs["buffers"]
    inputs |= replica.to_device({"streams": torch.tensor([float(streams)])})
    _, outputs = CapturedStep(compare_replicas, replica, "comparison step")({}, inputs)
    spread = {name: float(gap) for name, gap in replica.to_host(outputs).items()}
    if spread.pop("streams"):  # null follows from the workers, which follow from a machine's cores
        problem = f"machines would cut the data into different streams, this one into {streams}"
        raise DataError(f"{problem}: give all of them the same data.streams")
    if any(spread.values()):
        raise DivergenceError(f"replicas start with different weights, up to {max(spread.values()):g} apart")
