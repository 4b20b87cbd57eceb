"""What happens inside the compiled programs: the train step, the evaluation step, and two small ones.

Each is a pure function over dicts of device tensors, captured by xla.capture. Whatever changes from step to step comes
in through the carry; tables hold what is constant for the run but too large, or too important, to bake in.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn
from torch.func import functional_call

from xlatrain.engine.augment import Mix, mixed_cross_entropy, normalise, random_erase, random_flip
from xlatrain.engine.state import ModelLayout
from xlatrain.optim import Optimizer
from xlatrain.optim.clip import clip_adaptive, clip_norm, clip_value, norm
from xlatrain.optim.hyper import Hyper
from xlatrain.optim.layout import LANES, Layout
from xlatrain.optim.reduce import GradientMean
from xlatrain.optim.segments import Segments
from xlatrain.xla.collectives import all_reduce, in_order, mean_over_replicas
from xlatrain.xla.scopes import named, named_call

Tensors = dict[str, torch.Tensor]

# What a train step reports, in this order, as one float32 vector: one small transfer a step.
TRAIN_METRICS = ("loss", "top1", "skipped_samples", "lr", "grad_norm", "skipped_steps", "skipped_in_a_row")


@dataclass(frozen=True)
class Network:
    """A model applied with tensors from outside: carried parameters and buffers instead of its own."""

    module: nn.Module
    layout: ModelLayout
    bf16: bool

    def logits(self, images: torch.Tensor, params: Tensors, buffers: Tensors, tables: Tensors) -> torch.Tensor:
        """Forward pass: float32 [N, 3, H, W] to float32 [N, classes]; running statistics in `buffers` are updated in
        place when the module is in training mode. Convolutions and matrix products run in bf16 if asked for, but for
        the classifier in evaluation."""
        frozen = {name: tables[f"frozen/{name}"] for name in self.layout.frozen}
        with torch.autocast("xla", dtype=torch.bfloat16, enabled=self.bf16):
            return functional_call(self.module, {**params, **buffers, **frozen}, (images,)).float()


@dataclass(frozen=True)
class Loss:
    """From images to the loss, with augmentation on the way."""

    network: Network
    label_smoothing: float
    flip: bool
    mix: Mix | None
    erase: float

    def __call__(
        self, images: torch.Tensor, labels: torch.Tensor, params: Tensors, buffers: Tensors, tables: Tensors
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """images uint8 [N, H, W, 3], labels int64 [N]. Returns the mean loss and the share of right answers."""
        with named("images"):
            images = normalise(images, tables["mean"], tables["std"])
            if self.flip:
                images = random_flip(images)
            if self.erase:
                images = random_erase(images, self.erase)
            images, share = self.mix(images, tables) if self.mix else (images, None)
        logits = self.network.logits(images, params, buffers, tables)
        with named("metrics"):
            top1 = (logits.detach().argmax(1) == labels).float().mean()
        return named_call("loss", mixed_cross_entropy, logits, labels, share, self.label_smoothing), top1


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

    Inputs: images uint8 [local batch, H, W, 3], labels int64 and skipped float32 [local batch], and the tables.
    Carry: state.initial_state. Output: `metrics` float32 [len(metrics)], equal on all replicas; loss and top1 are means
    over the global batch, skipped_samples is the share of its samples that could not be decoded.

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

    @property
    def metrics(self) -> tuple[str, ...]:
        return (*TRAIN_METRICS, "gradient_error") if self.mean.report_error else TRAIN_METRICS

    def __call__(self, carry: Tensors, inputs: Tensors) -> tuple[Tensors, Tensors]:
        layout = self.loss.network.layout
        self.loss.network.module.train()
        segments = Segments(layout.parameters, inputs["segments"])
        flat, buffers, local = self._gradient(carry, inputs)
        with torch.no_grad():
            # Metrics, and buffers averaged each step, travel with the gradient: one all-reduce of one buffer.
            with named("gradient.mean"):
                extra = [F.pad(local, (0, LANES - len(local)))] + ([buffers] if self.average_buffers else [])
                gradient, means, error = self.mean(flat, torch.cat(extra), segments)
                loss, top1, skipped_samples = means[: len(local)]
                buffers = means[LANES:] if self.average_buffers else buffers
            with named("gradient.norm"):
                grad_norm = norm(gradient)
            with named("gradient.clip"):
                gradient = self.clip(carry["params"], gradient, layout.parameters)
            with named(f"optimizer.{type(self.optimizer).__name__}"):
                hyper = self._hyper(carry, inputs)
                slots = {k.removeprefix("slot/"): t for k, t in carry.items() if k.startswith("slot/")}
                new_params, new_slots = self.optimizer.update(carry["params"], gradient, slots, hyper, segments)
            new = {"params": new_params, "buffers": buffers}
            new |= {f"slot/{name}": tensor for name, tensor in new_slots.items()}
            if self.ema_decay is not None:
                with named("ema"):
                    new |= averaged(carry, new, self.ema_decay)

            # The guard: one sum that any inf or nan poisons, alike on all replicas since it is of reduced values. Of
            # the new parameters too: an update may overflow where the gradient does not.
            with named("guard"):
                healthy = torch.isfinite(grad_norm + loss + new_params.abs().max())
                new = {name: torch.where(healthy, tensor, carry[name]) for name, tensor in new.items()}
                bad = torch.logical_not(healthy).long()
                new["step"] = carry["step"] + 1
                new["skipped"] = carry["skipped"] + bad
                new["skipped_in_a_row"] = (carry["skipped_in_a_row"] + 1) * bad
            with named("metrics"):
                values = [loss, top1, skipped_samples, hyper.lr, grad_norm, new["skipped"], new["skipped_in_a_row"]]
                values += [] if error is None else [error]
                return {**new, "rng": carry["rng"]}, {"metrics": torch.stack([v.float() for v in values])}

    def _gradient(self, carry: Tensors, inputs: Tensors) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """This replica's flat gradient, its buffers after the step, and its loss, top-1 and skipped share."""
        layout = self.loss.network.layout
        with named("buffers"):
            buffers = {k: t.clone() for k, t in layout.buffers.unpack(carry["buffers"]).items()}
        images, labels = inputs["images"].chunk(self.accumulate), inputs["labels"].chunk(self.accumulate)
        total, seen = None, None
        for part, answers in zip(images, labels, strict=True):
            if total is not None:
                total, part = in_order(total, part)
            with named("parameters"):
                params = {k: t.clone().requires_grad_() for k, t in layout.parameters.unpack(carry["params"]).items()}
            loss, top1 = self.loss(part, answers, params, buffers, inputs)
            grads = torch.autograd.grad(loss, list(params.values()), allow_unused=True)
            with named("gradient.pack"):
                known = [torch.zeros_like(p) if g is None else g for g, p in zip(grads, params.values(), strict=True)]
                flat, values = layout.parameters.pack(known), torch.stack([loss.detach(), top1])
                total, seen = (flat, values) if total is None else (total + flat, seen + values)
        with named("gradient.pack"):
            local = torch.cat([seen / self.accumulate, inputs["skipped"].mean().reshape(1)])
            total = total / self.accumulate
        with named("buffers"):
            return total, layout.buffers.pack(buffers) if buffers else carry["buffers"], local

    @staticmethod
    def _hyper(carry: Tensors, inputs: Tensors) -> Hyper:
        """This step's hyper-parameters, from the tables of the run."""
        lr, momentum = (inputs[n].index_select(0, carry["step"].reshape(1)).reshape(()) for n in ("lr", "momentum"))
        return Hyper(lr, momentum, (carry["step"] - carry["skipped"] + 1).float())


@dataclass(frozen=True)
class EvalStep:
    """One evaluation step: adds what a batch says to sums that are carried on the device.

    Inputs: images uint8 [local batch, H, W, 3]; labels int64; mask float32, 1 for an image and 0 for padding; skipped
    float32, 1 for an image that could not be decoded; params and buffers, flat; the tables. Carry: `sums` float32 [5] =
    loss, top-1 hits, top-5 hits, images, skipped images, over all replicas; exact in float32 up to 2^24 images.
    """

    network: Network

    def __call__(self, carry: Tensors, inputs: Tensors) -> tuple[Tensors, Tensors]:
        self.network.module.eval()
        layout = self.network.layout
        with torch.no_grad():
            with named("images"):
                images = normalise(inputs["images"], inputs["mean"], inputs["std"])
            with named("parameters"):
                params, buffers = layout.parameters.unpack(inputs["params"]), layout.buffers.unpack(inputs["buffers"])
            logits = self.network.logits(images, params, buffers, inputs)
            with named("metrics"):
                labels, mask = inputs["labels"], inputs["mask"]
                loss = F.cross_entropy(logits, labels, reduction="none")
                # Rank by counting logits that are not smaller: exact for any number of classes. Ties and nan count
                # against.
                mine = logits.gather(1, labels[:, None])
                others = torch.arange(logits.shape[1], device=logits.device)[None, :] != labels[:, None]
                rank = (torch.logical_not(logits < mine) & others).sum(1)
                hits = [loss * mask, (rank < 1).float() * mask, (rank < 5).float() * mask, mask, inputs["skipped"]]
                sums = all_reduce(torch.stack([h.sum() for h in hits]))
                return {"sums": carry["sums"] + sums}, {}


def average_buffers(carry: Tensors, inputs: Tensors) -> tuple[Tensors, Tensors]:
    """Make batch norm's running statistics equal on all replicas: their mean. As timm's and the TPU ResNet's code do;
    the running variance is the unbiased one, so that its mean over groups needs no correction."""
    return {name: mean_over_replicas(tensor) for name, tensor in carry.items()}, {}


def compare_replicas(carry: Tensors, inputs: Tensors) -> tuple[Tensors, Tensors]:
    """How far the replicas' parameters and buffers are apart: `spread` float32 [1], 0 when they are bit-equal."""
    gaps = [(all_reduce(t, op="max") - all_reduce(t, op="min")).abs().max() for t in inputs.values() if t.numel()]
    return {}, {"spread": torch.stack(gaps).max().reshape(1)}


def averaged(carry: Tensors, new: Tensors, decay: float) -> Tensors:
    """The moving averages after a step: e + (1 - d)(x - e), d = min(decay, (1 + t) / (10 + t)) at step t, which is
    TensorFlow's ExponentialMovingAverage with num_updates. The difference form leaves equal values equal."""
    t = carry["step"].float()
    share = 1.0 - torch.clamp((1.0 + t) / (10.0 + t), max=decay)
    return {f"ema_{name}": torch.lerp(carry[f"ema_{name}"], new[name], share) for name in ("params", "buffers")}
