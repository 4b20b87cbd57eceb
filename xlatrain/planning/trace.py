"""The train and eval step of a run traced on one CPU device, as one replica of its cluster: programs to compile."""

from __future__ import annotations

import dataclasses

import torch

from xlatrain.engine.build import (
    blank_batch,
    build_eval_step,
    build_host_model,
    build_train_step,
    eval_tables,
    train_carry,
    train_tables,
)
from xlatrain.models.batch_norm import GroupedBatchNorm
from xlatrain.models.create import check_model
from xlatrain.models.flops import depthwise_modules, train_flops
from xlatrain.preflight.check import Plan
from xlatrain.xla.capture import CapturedStep, ExportedStep
from xlatrain.xla.runtime import Replica, planned_world, to_device
from xlatrain.xla.scopes import named_modules


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


def trace_run(replica: Replica, plan: Plan) -> TracedRun:
    """Trace both steps for the cluster of a checked run. Runs in a process of one replica (xla.launch)."""
    config = plan.config
    world = config.cluster.replicas
    replica = dataclasses.replace(replica, world_size=world, platform=config.cluster.platform.upper())
    with planned_world(world):
        model = build_host_model(plan, replica)
        with named_modules(model.module, whole=GroupedBatchNorm):
            carry = to_device(train_carry(plan, model, ordinal=0), replica.device)
            batch = blank_batch(config.train.global_batch // world, config.data.image_size)
            inputs = to_device({**batch, **train_tables(plan, model)}, replica.device)
            train = CapturedStep(build_train_step(config, model), replica, "train step").export(carry, inputs)
            batch = blank_batch(plan.eval_batch // world, config.data.image_size, masked=True)
            weights = {"params": carry["params"], "buffers": carry["buffers"]}
            inputs = to_device({**batch, **eval_tables(config, model)}, replica.device) | weights
            sums = to_device({"sums": torch.zeros(5)}, replica.device)
            evaluation = CapturedStep(build_eval_step(config, model), replica, "eval step").export(sums, inputs)
        plain = check_model(config.model, plan.dataset.num_classes, config.data.image_size)
        depthwise = depthwise_modules(plain)
        flops = train_flops(plain, config.data.image_size) * (config.train.global_batch // world)
        return TracedRun(train, evaluation, sum(p.numel() for p in model.module.parameters()), flops, depthwise)
