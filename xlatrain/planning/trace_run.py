"""The train and eval step of a run traced on one CPU device, as one replica of its cluster: programs to compile."""

from __future__ import annotations

import dataclasses

from xlatrain.engine.build import build_phase_model
from xlatrain.engine.trace_steps import trace_steps
from xlatrain.models.batch_norm import GroupedBatchNorm
from xlatrain.models.create import check_model
from xlatrain.models.flops import depthwise_modules, train_flops
from xlatrain.preflight.checked import CheckedRun
from xlatrain.xla.replica import Replica
from xlatrain.xla.scopes import named_modules
from xlatrain.xla.trace import ExportedStep
from xlatrain.xla.world import planned_world


@dataclasses.dataclass(frozen=True)
class TracedRun:
    """The programs of a run, and how large its model is."""

    train: ExportedStep
    eval: ExportedStep
    parameters: int
    flops: float  # of the model, for the train step of a replica
    depthwise: frozenset[str]  # names of the model's depthwise convolutions

    @property
    def steps(self) -> dict[str, ExportedStep]:
        return {"train": self.train, "eval": self.eval}


def trace_run(replica: Replica, run: CheckedRun) -> TracedRun:
    """Trace both steps for the cluster of a checked run. Runs in a process of one replica (xla.launch)."""
    config, world, phase = run.config, run.config.cluster.replicas, run.phases[0]
    replica = dataclasses.replace(replica, world_size=world, platform=config.cluster.platform)
    with planned_world(world):
        model = build_phase_model(run, phase, replica)
        with named_modules(model.module, whole=GroupedBatchNorm):
            train_step, eval_step = trace_steps(run, model, replica)
        plain = check_model(config.model, run.dataset.num_classes, phase.image_size)
        flops = train_flops(plain, phase.image_size) * phase.batch(world)
        parameters = sum(p.numel() for p in model.module.parameters())
        return TracedRun(train_step, eval_step, parameters, flops, depthwise_modules(plain))
