"""From a checked run to its programs on one replica: model, steps, and what they are fed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import nn

from xlatrain.config.schema import Config, TrainConfig
from xlatrain.data.batch import BatchShape, as_tensors
from xlatrain.data.order import Position
from xlatrain.data.phase import Phase, Place
from xlatrain.engine.augment import Mix, beta_quantiles, mixed_binary_cross_entropy, mixed_cross_entropy
from xlatrain.engine.contract import EvalSums, EvalTables, Tensors, TrainTables
from xlatrain.engine.state import ModelLayout, first_seed, initial_state, model_layout
from xlatrain.engine.step import AnswerStep, Clip, EvalStep, Loss, Network, TrainStep
from xlatrain.models.batch_norm import convert_batch_norm
from xlatrain.models.bn_groups import replica_groups
from xlatrain.models.channels_last.convert import can_be_channels_last, convert_channels_last
from xlatrain.models.channels_last.layers import ChannelsLastConv2d
from xlatrain.models.classifier import convert_classifier, head_names, last_layer
from xlatrain.models.create import build_model
from xlatrain.models.depthwise import DenseDepthwiseConv2d, convert_depthwise
from xlatrain.models.folding.choose import choose_folds
from xlatrain.models.folding.fold import fold_layers
from xlatrain.models.layers import find_frozen, layer_scales
from xlatrain.optim.create import build_optimizer
from xlatrain.optim.reduce import build_gradient_mean
from xlatrain.optim.schedule import learning_rate_table, momentum_table
from xlatrain.preflight.checked import CheckedEvaluation, CheckedRun
from xlatrain.preflight.lengths import parse_duration
from xlatrain.preflight.origin import Origin, take_weights
from xlatrain.xla.feed import HostFan
from xlatrain.xla.replica import Replica


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


def build_host_model(
    config: Config,
    num_classes: int,
    replica: Replica,
    image_size: int,
    bn_group: int = 1,
    fold: bool = False,
    origin: Origin | None = None,
) -> HostModel:
    """Build, convert for XLA, lay out. bn_group: replicas that share statistics. fold: whether the first layers work on
    folded images. origin: the weights that it starts from, if not its seed's."""
    options = config.model
    module = build_model(options, num_classes, image_size, config.train.seed)
    if origin is not None:
        take_weights(module, origin)
    groups = replica_groups(replica.world_size, bn_group, config.cluster.torus_width)
    convert_batch_norm(module, groups, bn_group, options.bn_momentum, options.bn_eps)
    if fold:
        fold_layers(module, choose_folds(module, image_size), image_size)
    elif options.layout == "channels_last" and can_be_channels_last(module):
        convert_channels_last(module)
    if options.depthwise == "shift":
        convert_depthwise(module, partial(ChannelsLastConv2d, first=True))
    elif options.depthwise == "dense":
        convert_depthwise(module, DenseDepthwiseConv2d, options.depthwise_dense_channels)
    convert_classifier(module)
    still = find_frozen(module, config.finetune.freeze)
    return HostModel(module, model_layout(module, config.optimizer.decayed, still))


def build_phase_model(run: CheckedRun, phase: Phase, replica: Replica) -> HostModel:
    """The model as a phase of a run trains it."""
    classes = run.dataset.num_classes
    return build_host_model(run.config, classes, replica, phase.image_size, phase.bn_group, phase.fold, run.origin)


@dataclass(frozen=True)
class TrainProgram:
    """A train step, its carry and its tables. On the host; to be put on a device and captured."""

    run: CheckedRun
    model: HostModel

    @property
    def step(self) -> TrainStep:
        config, layout = self.run.config, self.model.layout
        augment, gradient = config.augment, config.gradient
        mix = Mix(augment.mixup > 0, augment.cutmix > 0)
        loss = Loss(
            _network(config, self.model),
            _criterion(config.train),
            augment.flip,
            mix if mix.mixup or mix.cutmix else None,
            augment.erase,
            augment.cutout,
        )
        return TrainStep(
            loss=loss,
            optimizer=build_optimizer(config.optimizer),
            mean=build_gradient_mean(gradient, layout.parameters, last_layer(self.model.module)),
            clip=Clip(gradient.clip, gradient.clip_limit),
            ema_decay=config.ema.decay if config.ema.enabled else None,
            accumulate=gradient.accumulate,
            average_buffers=config.model.sync_bn_statistics == "step" and bool(layout.buffers.names),
        )

    def carry(self, ordinal: int) -> Tensors:
        """Before step 0. Replicas differ in nothing but the seed of their random masks."""
        config = self.run.config
        slots, seed = build_optimizer(config.optimizer).slots, first_seed(config.train.seed, ordinal)
        return initial_state(self.model.module, self.model.layout, slots, config.ema.enabled, seed).tensors()

    def tables(self) -> Tensors:
        """What no step changes: the schedule among it, one learning rate a step."""
        augment = self.run.config.augment
        return TrainTables(
            **vars(_eval_tables(self.run.config, self.model)),
            lr=torch.tensor(learning_rate_table(self.run.schedule)),
            momentum=torch.tensor(momentum_table(self.run.schedule)),
            segments=self.model.layout.parameters.segments(),
            **self._paces(),
            mixup_quantiles=beta_quantiles(augment.mixup) if augment.mixup > 0 else None,
            cutmix_quantiles=beta_quantiles(augment.cutmix) if augment.cutmix > 0 else None,
        ).tensors()

    def _paces(self) -> dict[str, torch.Tensor]:
        """How fast each tensor moves, and from which step on, where not all do alike from the first."""
        config, lengths, module = self.run.config, self.run.lengths, self.model.module
        names, found = self.model.layout.parameters.names, {}
        if (decay := config.optimizer.layer_decay) is not None:
            scales = layer_scales(module, decay)
            found["scales"] = torch.tensor([scales[name] for name in names])
        if config.finetune.head_first is not None:
            head, alone = head_names(module), lengths.steps(parse_duration(config.finetune.head_first))
            found["moves_from"] = torch.tensor([0 if name in head else alone for name in names])
        return found

    def blank_batch(self, phase: Phase) -> Tensors:
        """A replica's batch of a phase without content: the shapes that the feed hands to the step."""
        return as_tensors(BatchShape(phase.batch(self.run.config.cluster.replicas), phase.image_size).new())


@dataclass(frozen=True)
class EvalProgram:
    """An evaluation step, its carry and its tables. On the host. Flat parameters and buffers come in beside them.
    answers: the step tells what the model answers to each image, too."""

    evaluation: CheckedEvaluation
    model: HostModel
    answers: bool = False

    @property
    def step(self) -> EvalStep:
        return (AnswerStep if self.answers else EvalStep)(_network(self.evaluation.config, self.model))

    def carry(self) -> Tensors:
        return EvalSums.zero()

    def tables(self) -> Tensors:
        return _eval_tables(self.evaluation.config, self.model).tensors()

    def blank_batch(self) -> Tensors:
        """A replica's batch without content."""
        config = self.evaluation.config
        share = self.evaluation.batch // config.cluster.replicas
        return as_tensors(BatchShape(share, config.data.image_size, masked=True).new())


def _criterion(config: TrainConfig) -> Callable[..., torch.Tensor]:
    """What a step makes small, of logits, labels and shares."""
    if config.loss == "binary_cross_entropy":
        return partial(mixed_binary_cross_entropy, smoothing=config.label_smoothing, threshold=config.bce_threshold)
    return partial(mixed_cross_entropy, smoothing=config.label_smoothing)


def _network(config: Config, model: HostModel) -> Network:
    return Network(model.module, model.layout, config.precision.name == "bf16")


def _eval_tables(config: Config, model: HostModel) -> EvalTables:
    mean, std = torch.tensor(config.data.mean), torch.tensor(config.data.std)
    return EvalTables(mean, std, torch.zeros(1), model.frozen())


def open_train_loader(run: CheckedRun, replica: Replica, start: Position) -> HostFan:
    """The batches of a run from a position on, shared out to the replicas of this process."""
    batches = run.dataset.train.train_batches(place(replica), run.config.train.seed, run.phases, start)
    return HostFan(batches, replica.local_count)


def place(replica: Replica) -> Place:
    """This process's part in reading data."""
    return Place(replica.process, replica.processes)
