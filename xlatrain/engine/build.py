"""From a checked plan to the parts of a run on one replica."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from xlatrain.config.schema import Config, ModelConfig
from xlatrain.data.batch import BatchShape, as_tensors
from xlatrain.data.stage import Place, Stage
from xlatrain.engine.augment import Mix, beta_quantiles
from xlatrain.engine.state import ModelLayout, first_seed, initial_state, model_layout
from xlatrain.engine.step import Clip, EvalStep, Loss, Network, Tensors, TrainStep
from xlatrain.models.batch_norm import convert_batch_norm
from xlatrain.models.bn_groups import replica_groups
from xlatrain.models.classifier import convert_classifier, last_layer
from xlatrain.models.create import build_model
from xlatrain.models.depthwise import DenseDepthwiseConv2d, ShiftDepthwiseConv2d, convert_depthwise
from xlatrain.models.tiles import tile_first_layers
from xlatrain.optim import build_optimizer
from xlatrain.optim.reduce import build_gradient_mean
from xlatrain.optim.schedule import learning_rate_table, momentum_table
from xlatrain.preflight.check import Plan
from xlatrain.xla.runtime import Replica


@dataclass(frozen=True)
class HostModel:
    """The model on the host, built once per process and shared by its replicas: steps are traced under a lock."""

    module: nn.Module
    layout: ModelLayout

    def frozen(self) -> Tensors:
        """Buffers that never change but that the forward pass may read."""
        buffers = dict(self.module.named_buffers())
        return {name: buffers[name] for name in self.layout.frozen}

    def persistent(self) -> Tensors:
        """Those of them that the model's state dict has."""
        names = self.module.state_dict().keys()
        return {name: tensor for name, tensor in self.frozen().items() if name in names}


def build_host_model(plan: Plan, replica: Replica) -> HostModel:
    """Build, convert for XLA, lay out."""
    config = plan.config
    module = build_model(config.model, plan.dataset.num_classes, config.data.image_size, config.train.seed)
    if plan.tiles.tiles > 1:
        tile_first_layers(module, plan.tiles, config.data.image_size, config.model.depthwise_dense_channels)
    groups = replica_groups(replica.world_size, plan.bn_group, config.cluster.torus_width)
    convert_batch_norm(module, groups, plan.bn_group, config.model.bn_momentum, config.model.bn_eps)
    _choose_depthwise(module, config.model, replica.platform)
    convert_classifier(module)
    return HostModel(module, model_layout(module, config.optimizer.decayed))


def _choose_depthwise(module: nn.Module, config: ModelConfig, platform: str) -> None:
    """The form of each depthwise convolution: asked for, or the platform's fastest."""
    form = config.depthwise
    if form == "shift" or (form == "auto" and platform == "CPU"):
        convert_depthwise(module, ShiftDepthwiseConv2d)
    elif form == "dense" or (form == "auto" and platform == "TPU"):
        convert_depthwise(module, DenseDepthwiseConv2d, config.depthwise_dense_channels)


def build_train_step(config: Config, model: HostModel) -> TrainStep:
    mix = Mix(config.augment.mixup > 0, config.augment.cutmix > 0)
    loss = Loss(
        network(config, model),
        config.train.label_smoothing,
        config.augment.flip,
        mix if mix.mixup or mix.cutmix else None,
        config.augment.erase,
    )
    gradient = config.gradient
    return TrainStep(
        loss=loss,
        optimizer=build_optimizer(config.optimizer),
        mean=build_gradient_mean(gradient, model.layout.parameters, last_layer(model.module)),
        clip=Clip(gradient.clip, gradient.clip_limit),
        ema_decay=config.ema.decay if config.ema.enabled else None,
        accumulate=gradient.accumulate,
        average_buffers=config.model.sync_bn_statistics == "step" and bool(model.layout.buffers.names),
    )


def build_eval_step(config: Config, model: HostModel) -> EvalStep:
    return EvalStep(network(config, model))


def network(config: Config, model: HostModel) -> Network:
    return Network(model.module, model.layout, config.precision.name == "bf16")


def eval_tables(config: Config, model: HostModel) -> Tensors:
    """What evaluation reads and nothing changes: host tensors."""
    tables = {"mean": torch.tensor(config.data.mean), "std": torch.tensor(config.data.std)}
    return tables | {f"frozen/{name}": tensor for name, tensor in model.frozen().items()}


def train_tables(plan: Plan, model: HostModel) -> Tensors:
    """What training reads and nothing changes: the schedule among it, one learning rate a step. Host tensors."""
    return eval_tables(plan.config, model) | {
        "lr": torch.tensor(learning_rate_table(plan.schedule)),
        "momentum": torch.tensor(momentum_table(plan.schedule)),
        "segments": model.layout.parameters.segments(),
        **{
            f"{name}_quantiles": beta_quantiles(alpha)
            for name, alpha in (("mixup", plan.config.augment.mixup), ("cutmix", plan.config.augment.cutmix))
            if alpha > 0
        },
    }


def train_carry(plan: Plan, model: HostModel, ordinal: int) -> Tensors:
    """The carry before step 0, on the host. Replicas differ in nothing but the seed of their random masks."""
    config = plan.config
    slots = build_optimizer(config.optimizer).slots
    seed = first_seed(config.train.seed, ordinal)
    return initial_state(model.module, model.layout, slots, config.ema.enabled, seed)


def place(replica: Replica) -> Place:
    """This process's part in reading data."""
    return Place(replica.process, replica.processes)


def stages(plan: Plan, replica: Replica) -> tuple[Stage, ...]:
    """The sizes of images that this process reads in turn."""
    return tuple(
        Stage(p.first_step, p.image_size, p.global_batch // replica.processes, p.min_area) for p in plan.lengths.phases
    )


def blank_batch(images: int, size: int, masked: bool = False) -> Tensors:
    """A batch of one replica without content, on the host: the shapes that the feed hands to a step."""
    return as_tensors(BatchShape(images, size, masked).new())
