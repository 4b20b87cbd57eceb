"""All that a run is between two steps, on the host: taken from the replicas, and given back to them.

Replicas differ in two things. Their random seed is a function of the run's seed, their ordinal and the step, so nothing
of it is saved, and there may be other replicas afterwards. The running statistics of batch norm are those of a group
of replicas: where there are several groups, one row for each is gathered, bit by bit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from xlatrain.engine.contract import Tensors, TrainState
from xlatrain.engine.state import first_seed
from xlatrain.errors import CheckpointError
from xlatrain.models.bn_groups import replica_groups
from xlatrain.preflight.checked import CheckedRun
from xlatrain.xla.capture import CapturedStep
from xlatrain.xla.collectives import all_gather
from xlatrain.xla.replica import Replica

Groups = list[list[int]]


def alike(run: CheckedRun, replicas: int) -> Groups:
    """The replicas whose statistics are equal at any step, of so many: those that share a group in every phase, since a
    phase begins with what the one before left. By their first ordinals; all of one size."""
    if run.config.model.sync_bn_statistics == "step":
        return [list(range(replicas))]
    width = run.config.cluster.torus_width
    groupings = [replica_groups(replicas, phase.bn_group, width) or [list(range(replicas))] for phase in run.phases]
    return refined(groupings, replicas)


def refined(groupings: Sequence[Groups], replicas: int) -> Groups:
    """The replicas that are together in every grouping; each alone where that gives groups of several sizes."""
    together: dict[tuple[int, ...], list[int]] = {}
    for ordinal in range(replicas):
        key = tuple(next(i for i, group in enumerate(groups) if ordinal in group) for groups in groupings)
        together.setdefault(key, []).append(ordinal)
    groups = list(together.values())
    return groups if len({len(group) for group in groups}) == 1 else [[ordinal] for ordinal in range(replicas)]


@dataclass(frozen=True)
class GatherStep:
    """One row of statistics for each group, on its first replica: float32 [groups, B] of [B]. A member of each group
    takes part in a gather: the first of all, the second of all, ..."""

    groups: Groups

    def __call__(self, carry: Tensors, inputs: Tensors) -> tuple[Tensors, Tensors]:
        rings = [sorted(members) for members in zip(*self.groups, strict=True)]
        return {}, {name: all_gather(tensor, rings if len(rings) > 1 else None) for name, tensor in inputs.items()}


class Snapshot:
    """Takes a replica's state to the host, on the first one; captures its step at the first use."""

    def __init__(self, replica: Replica, run: CheckedRun, replay: bool):
        self.replica, self.groups = replica, alike(run, replica.world_size)
        self._gather = CapturedStep(GatherStep(self.groups), replica, "gather step", replay)

    def take(self, state: Tensors, equal: bool) -> Tensors:
        """Copies on the host, made one after the other; on other replicas than the first nothing. Every replica has to
        come. equal: statistics were just made so, and nothing need be gathered. The next step takes the buffers of the
        state: all is copied when this returns."""
        differing = TrainState.of(state).statistics() if len(self.groups) > 1 and not equal else {}
        differing = {name: tensor for name, tensor in differing.items() if tensor.shape[0]}
        rows = self._gather({}, differing)[1] if differing else {}
        if not self.replica.is_first:
            return {}
        copies: Tensors = {}
        for name, tensor in {**state, **rows}.items():
            if name != "rng":
                copies |= self.replica.to_host({name: tensor})
        return copies


def give_back(
    saved: Tensors, saved_groups: Groups, fresh: Tensors, groups: Groups, seed: int, ordinal: int
) -> tuple[Tensors, bool]:
    """The state of a replica, on the host, from what was saved, and whether statistics of groups were averaged for it,
    since the groups are others now. fresh: a state of before step 0, for names and shapes. Raises CheckpointError."""
    state: Tensors = {}
    averaged = False
    for name, blank in fresh.items():
        if name == "rng":
            state[name] = torch.tensor(first_seed(seed, ordinal) + int(saved["step"]), dtype=blank.dtype)
            continue
        found = saved.get(name)
        if found is not None and found.dtype == blank.dtype and name in ("buffers", "ema_buffers") and found.ndim == 2:
            if saved_groups == groups:
                found = found[next(i for i, group in enumerate(groups) if ordinal in group)]
            else:
                found, averaged = found.double().mean(0).float(), True
        if found is None or found.dtype != blank.dtype or found.shape != blank.shape:
            seen = "is missing" if found is None else f"is {found.dtype}{list(found.shape)}"
            raise CheckpointError(
                f"the checkpoint is of another model or optimizer: {name} {seen}, and this run has "
                f"{blank.dtype}{list(blank.shape)}. Take the options of its config.yaml, or run.resume=never"
            )
        state[name] = found
    return state, averaged
