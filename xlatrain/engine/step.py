"""What happens inside the compiled programs: the train step, the evaluation step, and two small ones.

Each is a pure function over dicts of device tensors (engine.contract), captured by xla.capture. Whatever changes from
step to step comes in, as the carry or as the batch; tables hold what is constant for the run but too large, or too
important, to bake in.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import nn
from torch.func import functional_call

from xlatrain.engine.augment import Mix, cutout, normalise, random_erase, random_flip
from xlatrain.engine.contract import EvalSums, EvalTables, Tensors, TrainMetrics, TrainState, TrainTables, Weights
from xlatrain.engine.state import ModelLayout
from xlatrain.optim.clip import clip_adaptive, clip_norm, clip_value, norm
from xlatrain.optim.flat import ROW, Layout, Segments
from xlatrain.optim.hyper import Hyper
from xlatrain.optim.optimizer import Optimizer
from xlatrain.optim.pace import Pace
from xlatrain.optim.reduce import GradientMean
from xlatrain.xla.collectives import all_gather, all_reduce, in_order, mean_over_replicas
from xlatrain.xla.scopes import named, named_call


@dataclass(frozen=True)
class Network:
    """A model applied with tensors from outside: carried parameters and buffers instead of its own."""

    module: nn.Module
    layout: ModelLayout
    bf16: bool

    def train(self) -> None:
        """The mode of training, in which batch norms that are frozen normalise by their statistics, and keep them."""
        self.module.train()
        for name in self.layout.fixed_norms:
            self.module.get_submodule(name).eval()

    def logits(self, images: torch.Tensor, params: Tensors, buffers: Tensors, frozen: Tensors) -> torch.Tensor:
        """Forward pass: float32 [N, 3, H, W] to float32 [N, classes]; running statistics in `buffers` are updated in
        place when the module is in training mode. Convolutions and matrix products run in bf16 if asked for, but for
        the classifier in evaluation."""
        with torch.autocast("xla", dtype=torch.bfloat16, enabled=self.bf16):
            return functional_call(self.module, {**params, **buffers, **frozen}, (images,)).float()


@dataclass(frozen=True)
class Loss:
    """From images to the loss, with augmentation on the way. criterion: the loss of logits [N, classes], labels [N] and
    the share of each image's own label [N], or None."""

    network: Network
    criterion: Callable[[torch.Tensor, torch.Tensor, torch.Tensor | None], torch.Tensor]
    flip: bool
    mix: Mix | None
    erase: float
    cutout: int = 0

    def __call__(
        self, images: torch.Tensor, labels: torch.Tensor, params: Tensors, buffers: Tensors, tables: TrainTables
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """images uint8 [N, H, W, 3], labels int64 [N]. Returns the mean loss and the share of right answers."""
        with named("images"):
            images = normalise(images, tables.mean, tables.std)
            if self.flip:
                images = random_flip(images)
            if self.erase:
                images = random_erase(images, self.erase)
            if self.cutout:
                images = cutout(images, self.cutout)
            share = None
            if self.mix:
                images, share = self.mix(images, tables.mixup_quantiles, tables.cutmix_quantiles)
        logits = self.network.logits(images, params, buffers, tables.frozen)
        with named("metrics"):
            top1 = (logits.detach().argmax(1) == labels).float().mean()
        return named_call("loss", self.criterion, logits, labels, share), top1


@dataclass(frozen=True)
class Clip:
    """Clipping of the mean gradient: by value, by the norm of all of it, or adaptively (agc)."""

    kind: str
    limit: float

    def __call__(self, params: torch.Tensor, grads: torch.Tensor, layout: Layout) -> torch.Tensor:
        match self.kind:
            case "value":
                return clip_value(grads, self.limit)
            case "norm":
                return clip_norm(grads, self.limit)
            case "agc":
                return clip_adaptive(params, grads, self.limit, layout)
        return grads


@dataclass(frozen=True)
class TrainStep:
    """One optimizer step: images to new state. Reduce, then clip, then update.

    Carry: TrainState. Inputs: images uint8 [local batch, H, W, 3], labels int64 and skipped float32 [local batch], and
    TrainTables. Outputs: TrainMetrics.

    accumulate: micro-batches that the local batch is cut into. Their mean gradient is that of the whole batch, but for
    batch norm, whose statistics are those of a micro-batch. average_buffers: make running statistics equal every step.
    """

    loss: Loss
    optimizer: Optimizer
    mean: GradientMean
    clip: Clip
    ema_decay: float | None
    accumulate: int
    average_buffers: bool

    def __call__(self, carry: Tensors, inputs: Tensors) -> tuple[Tensors, Tensors]:
        old, tables = TrainState.of(carry), TrainTables.of(inputs)
        layout = self.loss.network.layout.parameters
        self.loss.network.train()
        segments = Segments(layout, tables.segments)
        flat, buffers, local = self._gradient(old, inputs, tables)
        with torch.no_grad():
            # Metrics, whether anybody is asked to stop, and buffers averaged each step travel with the gradient: one
            # all-reduce of one buffer.
            with named("gradient.mean"):
                extra = [F.pad(local, (0, ROW - len(local)))] + ([buffers] if self.average_buffers else [])
                gradient, means, error = self.mean(flat, torch.cat(extra), segments)
                loss, top1, skipped_samples, stop = means[: len(local)]
                buffers = means[ROW:] if self.average_buffers else buffers
            pace = Pace.at(old.step, tables.scales, tables.moves_from, segments)
            gradient = pace.of_gradient(gradient)
            with named("gradient.norm"):
                grad_norm = norm(gradient)
            with named("gradient.clip"):
                gradient = self.clip(old.params, gradient, layout)
            with named(f"optimizer.{type(self.optimizer).__name__}"):
                hyper = self._hyper(old, tables)
                told = replace(hyper, updates=pace.of_updates(hyper.updates))
                params, slots = self.optimizer.update(old.params, gradient, old.slots, told, segments)
            params, slots = pace.of_update(old.params, old.slots, params, slots)
            new = TrainState(params, buffers, slots)
            if self.ema_decay is not None:
                with named("ema"):
                    new = averaged(old, new, self.ema_decay)

            # The guard: one sum that any inf or nan poisons, alike on all replicas since it is of reduced values. Of
            # the new parameters too: an update may overflow where the gradient does not.
            with named("guard"):
                healthy = torch.isfinite(grad_norm + loss + params.abs().max())
                kept = {name: torch.where(healthy, t, carry[name]) for name, t in new.tensors().items()}
                bad = torch.logical_not(healthy).long()
                skipped, in_a_row = old.skipped + bad, (old.skipped_in_a_row + 1) * bad
                counts = TrainState.counts(old.step + 1, skipped, in_a_row, old.rng)
            with named("metrics"):
                metrics = TrainMetrics(loss, top1, skipped_samples, stop, hyper.lr, grad_norm, skipped, in_a_row, error)
                return {**kept, **old.unchanged(), **counts}, metrics.stacked()

    def _gradient(
        self, state: TrainState, inputs: Tensors, tables: TrainTables
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """This replica's flat gradient, its buffers after the step, and its loss, top-1, skipped share, and whether it
        is asked to stop."""
        layout = self.loss.network.layout
        with named("buffers"):
            buffers = {k: t.clone() for k, t in layout.buffers.unpack(state.buffers).items()}
        images, labels = inputs["images"].chunk(self.accumulate), inputs["labels"].chunk(self.accumulate)
        total, seen = None, None
        fixed = {} if state.fixed is None else layout.fixed.unpack(state.fixed)
        for part, answers in zip(images, labels, strict=True):
            if total is not None:
                total, part = in_order(total, part)
            with named("parameters"):
                params = {k: t.clone().requires_grad_() for k, t in layout.parameters.unpack(state.params).items()}
            loss, top1 = self.loss(part, answers, {**params, **fixed}, buffers, tables)
            grads = torch.autograd.grad(loss, list(params.values()), allow_unused=True)
            with named("gradient.pack"):
                known = [torch.zeros_like(p) if g is None else g for g, p in zip(grads, params.values(), strict=True)]
                flat, values = layout.parameters.pack(known), torch.stack([loss.detach(), top1])
                total, seen = (flat, values) if total is None else (total + flat, seen + values)
        with named("gradient.pack"):
            local = torch.cat([seen / self.accumulate, inputs["skipped"].mean().reshape(1), tables.stop])
            total = total / self.accumulate
        with named("buffers"):
            return total, layout.buffers.pack(buffers) if buffers else state.buffers, local

    @staticmethod
    def _hyper(state: TrainState, tables: TrainTables) -> Hyper:
        """This step's hyper-parameters, from the tables of the run."""
        lr, momentum = (t.index_select(0, state.step.reshape(1)).reshape(()) for t in (tables.lr, tables.momentum))
        return Hyper(lr, momentum, (state.step - state.skipped + 1).float())


@dataclass(frozen=True)
class EvalStep:
    """One evaluation step: adds what a batch says to sums that are carried on the device.

    Inputs: images uint8 [local batch, H, W, 3]; labels int64; mask float32, 1 for an image and 0 for padding; skipped
    float32, 1 for an image that could not be decoded; params and buffers, flat; EvalTables. Carry: `sums`, EvalSums.
    Outputs: `stop` float32 [1], how many replicas are asked to stop.
    """

    network: Network

    def __call__(self, carry: Tensors, inputs: Tensors) -> tuple[Tensors, Tensors]:
        with torch.no_grad():
            return self._count(carry, inputs, self._logits(inputs))

    def _logits(self, inputs: Tensors) -> torch.Tensor:
        """What the model says to the images: float32 [local batch, classes]."""
        self.network.module.eval()
        layout, tables, weights = self.network.layout, EvalTables.of(inputs), Weights.of(inputs)
        with named("images"):
            images = normalise(inputs["images"], tables.mean, tables.std)
        with named("parameters"):
            params, buffers = layout.parameters.unpack(weights.params), layout.buffers.unpack(weights.buffers)
            if weights.fixed is not None:
                params |= layout.fixed.unpack(weights.fixed)
        return self.network.logits(images, params, buffers, tables.frozen)

    @staticmethod
    def _count(carry: Tensors, inputs: Tensors, logits: torch.Tensor) -> tuple[Tensors, Tensors]:
        """Carry and outputs with this batch in them."""
        with named("metrics"):
            labels, mask = inputs["labels"], inputs["mask"]
            loss = F.cross_entropy(logits, labels, reduction="none")
            # Rank by counting logits that are not smaller: exact for any number of classes. Ties and nan count against.
            mine = logits.gather(1, labels[:, None])
            others = torch.arange(logits.shape[1], device=logits.device)[None, :] != labels[:, None]
            rank = (torch.logical_not(logits < mine) & others).sum(1)
            hits = [loss * mask, (rank < 1).float() * mask, (rank < 5).float() * mask, mask, inputs["skipped"]]
            sums = all_reduce(torch.cat([EvalSums(*(h.sum() for h in hits)).stacked(), EvalTables.of(inputs).stop]))
            return {"sums": carry["sums"] + sums[:-1]}, {"stop": sums[-1:]}


@dataclass(frozen=True)
class AnswerStep(EvalStep):
    """An evaluation step that also tells what the model answers to each image.

    Further inputs: numbers float32 [local batch, 2] (Answers.numbers). Further outputs: `answers` float32 [batch of all
    replicas, classes + 4] (Answers), the same on all of them.
    """

    def __call__(self, carry: Tensors, inputs: Tensors) -> tuple[Tensors, Tensors]:
        with torch.no_grad():
            logits = self._logits(inputs)
            carry, outputs = self._count(carry, inputs, logits)
            with named("answers"):
                more = inputs["numbers"], inputs["labels"].float()[:, None], inputs["skipped"][:, None]
                told = torch.cat([logits, *more], 1)
                return carry, {**outputs, "answers": all_gather(told).reshape(-1, told.shape[1])}


def average_buffers(carry: Tensors, inputs: Tensors) -> tuple[Tensors, Tensors]:
    """Make batch norm's running statistics equal on all replicas: their mean. As timm's and the TPU ResNet's code do;
    the running variance is the unbiased one, so that its mean over groups needs no correction."""
    return {name: mean_over_replicas(tensor) for name, tensor in carry.items()}, {}


def compare_replicas(carry: Tensors, inputs: Tensors) -> tuple[Tensors, Tensors]:
    """How far replicas are apart in each of the inputs that are not empty: float32 [1], 0 where they are bit-equal."""
    return {}, {
        name: (all_reduce(t, op="max") - all_reduce(t, op="min")).abs().max().reshape(1)
        for name, t in inputs.items()
        if t.numel()
    }


def averaged(old: TrainState, new: TrainState, decay: float) -> TrainState:
    """`new` with the moving averages after a step: e + (1 - d)(x - e), d = min(decay, (1 + t) / (10 + t)) at step t,
    which is TensorFlow's ExponentialMovingAverage with num_updates. The difference form leaves equal values equal."""
    t = old.step.float()
    share = 1.0 - torch.clamp((1.0 + t) / (10.0 + t), max=decay)
    params = torch.lerp(old.ema_params, new.params, share)
    return replace(new, ema_params=params, ema_buffers=torch.lerp(old.ema_buffers, new.buffers, share))
