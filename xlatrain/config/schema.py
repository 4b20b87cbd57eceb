"""The schema of conf/: each option's type, default, unit and help, here and in the other files of the room.

YAML files under conf/ only compose and override these. `xlatrain train --help` prints them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

from omegaconf import MISSING

from xlatrain.config.cluster import ClusterConfig
from xlatrain.config.data import (
    AugmentConfig,
    DataConfig,
    DigitsConfig,
    OwnDataConfig,
    ShardsConfig,
    SyntheticConfig,
)
from xlatrain.config.engine import EngineConfig
from xlatrain.config.finetune import FinetuneConfig
from xlatrain.config.launch import LaunchConfig
from xlatrain.config.option import group, option
from xlatrain.config.recipe import RecipeConfig
from xlatrain.config.run import CheckpointConfig, LoggerConfig, RunConfig, SweepConfig
from xlatrain.config.schedule import ScalingConfig, ScheduleConfig


@dataclass
class ModelConfig:
    name: str = option(MISSING, "any timm model")
    image_size: int | None = option(
        None, "resolution the model is made for; data.image_size takes it over", "pixels", low=1
    )
    drop_rate: float | None = option(
        None, "dropout before the classifier; null = timm's default", "probability", low=0, high=1
    )
    drop_path_rate: float | None = option(
        None, "stochastic depth of the last block; null = timm's", "probability", low=0, high=1
    )
    sync_bn_group: str = option(
        "auto",
        "replicas that share batch norm statistics: world, local, how many, or a rule of the TPU code: auto (128 "
        "images), auto_rmsprop",
    )
    sync_bn_statistics: str = option(
        "eval", "when running statistics are made equal over all replicas", choices=("eval", "step")
    )
    bn_momentum: float | None = option(
        None, "weight of the new batch in the running statistics; null = the model's", low=0, high=1
    )
    bn_eps: float | None = option(None, "added to the variance; null = the model's", low=0)
    depthwise: str = option(
        "auto",
        "how depthwise convolutions are computed: native; shift = shifted multiply-adds; dense = dense ones with a "
        "diagonal kernel, up to depthwise_dense_channels; auto = shift on CPU, dense on TPU, native on GPU",
        choices=("auto", "native", "shift", "dense"),
    )
    depthwise_dense_channels: int = option(32, "more channels than this are native where others are dense", low=0)
    layout: str = option(
        "auto",
        "how a program has images: channels_first = [N, C, H, W], which TPU and GPU arrange as they like; "
        "channels_last = [N, H, W, C], faster on CPU, of timm's EfficientNets and ResNets; auto = channels_last on CPU "
        "where depthwise=shift",
        choices=("auto", "channels_first", "channels_last"),
    )
    fold: bool | None = option(
        None,
        "compute the first stages of an EfficientNet with neighbouring pixels folded into the channels, for the matrix "
        "unit and the lanes of a TPU; null = on TPU, where a model has such layers",
    )
    pool: str | None = option(None, "global pooling; catavgmax = fast.ai's concat pooling; null = the model's")
    zero_init_residual: bool = option(
        False, "start each residual block as the identity: last batch norm scale 0; timm's ResNets do so by themselves"
    )
    pretrained: bool = option(
        False, "start from timm's weights of this name, from a folder of this machine or from the hub"
    )
    kwargs: dict[str, Any] = option({}, "further arguments for timm.create_model, or for model._target_")
    _target_: str | None = option(
        None, "a model of your own instead, as in my.module.Net: called with num_classes and kwargs, gives an nn.Module"
    )


@dataclass
class OptimizerConfig:
    name: str = MISSING
    lr: float = option(0.1, "peak learning rate, for the global batch", low=0)
    weight_decay: float = option(0.0, "of the tensors that optimizer.decayed names", low=0)
    momentum: float = option(0.9, "of the momentum buffer; adamw, lamb: beta1", low=0, below=1)
    decayed: str = option(
        "weights",
        "what weight decay (and layer adaptation) is for: weights; not_norm = biases too, as the TPU EfficientNet's; "
        "all = norms too",
        choices=("weights", "not_norm", "all"),
    )
    layer_decay: float | None = option(
        None,
        "layer-wise rates by timm's rule: the last layer at the full rate, each layer before it at this times the next "
        "one's; null = one rate for all",
        low=0.001,
        high=1,
    )
    _target_: str | None = option(
        None, "an optimizer of your own instead, as in my.module.Lion: called with the options, one object, and kwargs"
    )
    kwargs: dict[str, Any] = option({}, "arguments for optimizer._target_, beside the options")
    cycles_momentum: ClassVar[bool] = True  # onecycle's low_momentum is for this optimizer's momentum


@dataclass
class SGDConfig(OptimizerConfig):
    name: str = "sgd"
    nesterov: bool = option(True, "look-ahead momentum")
    decoupled_decay: bool = option(False, "decay the weights, not the gradient: w - lr·wd·w")


@dataclass
class RMSpropTFConfig(OptimizerConfig):
    name: str = "rmsprop_tf"
    rho: float = option(0.9, "decay of the mean square", low=0, below=1)
    eps: float = option(1e-3, "inside the square root, as TensorFlow has it", low=0)
    decoupled_decay: bool = option(False, "decay the weights, not the gradient: w - lr·wd·w")


@dataclass
class AdamWConfig(OptimizerConfig):
    name: str = "adamw"
    cycles_momentum: ClassVar[bool] = False
    beta2: float = option(0.999, "decay of the mean square", low=0, below=1)
    eps: float = option(1e-8, "added to the root of the mean square", low=0)


@dataclass
class LAMBConfig(OptimizerConfig):
    name: str = "lamb"
    cycles_momentum: ClassVar[bool] = False
    beta2: float = option(0.999, "decay of the mean square", low=0, below=1)
    eps: float = option(1e-6, "added to the root of the mean square", low=0)
    correct_bias: bool = option(True, "Adam's bias correction; a warm-up can stand in for it")
    max_weight_norm: float | None = option(None, "clamp of |w| in the trust ratio; null = none", low=0)
    trust_clip: bool = option(False, "limit the trust ratio to 1")
    max_grad_norm: float | None = option(None, "clip the whole gradient to this norm first; null = no", low=1e-12)


@dataclass
class LARSConfig(OptimizerConfig):
    name: str = "lars"
    trust_coefficient: float = option(1e-3, "eta of the trust ratio", low=0)
    eps: float = option(0.0, "added to the denominator of the trust ratio", low=0)
    nesterov: bool = option(False, "look-ahead momentum")
    scaled_momentum: bool = option(False, "rate and trust outside the momentum buffer, not inside")
    trust_clip: bool = option(False, "LARC: a tensor's rate is at most lr: min(trust, lr)")
    trust_limit: float | None = option(None, "the trust ratio is at most this; null = no limit", low=0)
    value_limit: float | None = option(
        None, "each value of the gradient with its decay is cut to plus or minus this; null = none is", low=0
    )
    loss_l2: float = option(0.0, "a second decay, in the loss, of all but norms: the reference code's", low=0)


@dataclass
class GradientConfig:
    name: str = MISSING
    accumulate: int = option(1, "micro-batches that a step's batch is cut into, inside the captured step", low=1)
    clip: str = option("none", "clipping after the reduction", choices=("none", "value", "norm", "agc"))
    clip_limit: float = option(1.0, "largest value, norm, or ratio of norms (agc)", low=0)
    bucket_mb: float | None = option(None, "all-reduce in buckets of this size; null = all at once", "MB", low=0)
    exponent_bits: int = option(
        8, "of the format that gradients are all-reduced in; emulated below 8 + 23", low=2, high=8
    )
    mantissa_bits: int = option(23, "of that format", low=0, high=23)
    scale: bool = option(False, "APS: scale each tensor by a power of two so that its sum just fits the format")
    sum: str = option(
        "ordered",
        "add replica after replica, rounding each time (memory: world size times), or round once and add in float32",
        choices=("ordered", "float32"),
    )
    kahan: bool = option(False, "carry the rounding error of the ordered sum along")
    fp32_last_layer: bool = option(False, "all-reduce the classifier in float32 (hybrid precision)")
    report_error: bool = option(False, "log |mean - float32 mean| / |float32 mean| as gradient_error; reduces twice")


@dataclass
class PrecisionConfig:
    name: str = option(
        MISSING,
        "of matrix products and convolutions; parameters, batch norm, loss and the logits of evaluation stay fp32",
        choices=("fp32", "bf16"),
    )


@dataclass
class EmaConfig:
    enabled: bool = option(MISSING, "keep a moving average of parameters and batch norm statistics, and evaluate it")
    decay: float = option(0.9999, "at most; min(decay, (1 + t) / (10 + t)) at step t", low=0, high=1)


@dataclass
class TrainConfig:
    global_batch: int = option(128, "images per step over all replicas", "images", low=1)
    duration: str = option("20ep", "length of the run", "duration", may_change=True)
    seed: int = option(0, "of initial weights, order, augmentation and masks", low=0, high=2**31 - 1)
    label_smoothing: float = option(0.0, "share of the target spread over all classes", "probability", low=0, high=1)
    loss: str = option(
        "cross_entropy",
        "what is made small: of a softmax over the classes, or of a yes and a no for each class, their mean; the loss "
        "of an evaluation is cross entropy in either case",
        choices=("cross_entropy", "binary_cross_entropy"),
    )
    bce_threshold: float | None = option(
        None,
        "binary_cross_entropy: a target above this is 1, another 0, so that both labels of a mixed image count in "
        "full; null = targets as they are",
        low=0,
        below=1,
    )
    until: str | None = option(
        None,
        "the first evaluation of which this is true ends the run, as in 'top1>=0.94' or 'loss<0.3', with top1, top5 or "
        "loss; null = train.duration does",
        may_change=True,
    )
    log_every: str = option("10step", "how often a line of metrics is written", "duration", may_change=True)
    eval_every: str = option("5ep", "how often the validation set is evaluated", "duration")
    max_skipped_steps: int = option(
        20, "non-finite gradients in a row that end the run", "steps", low=1, may_change=True
    )
    loss_spike: float | None = option(
        3.0,
        "a loss above this many times the median of the last 100 is noted in metrics.jsonl; null = none is",
        low=1,
        may_change=True,
    )


@dataclass
class EvalConfig:
    global_batch: int | None = option(None, "images per evaluation step; null = train.global_batch", "images", low=1)
    details: bool = option(
        False,
        "xlatrain eval: also accuracy by class, confusion matrix, calibration, and a page of the surest mistakes",
        may_change=True,
    )
    mistakes: int = option(60, "pictures on that page, at most", low=1, high=500, may_change=True)


@dataclass
class PredictConfig:
    top_k: int = option(5, "classes named for each image, the likeliest first; all where there are fewer", low=1)


@dataclass
class Config:
    model: ModelConfig = field(default_factory=ModelConfig)
    optimizer: OptimizerConfig = MISSING
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    scaling: ScalingConfig = field(default_factory=ScalingConfig)
    data: DataConfig = MISSING
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    gradient: GradientConfig = field(default_factory=GradientConfig)
    precision: PrecisionConfig = field(default_factory=PrecisionConfig)
    ema: EmaConfig = field(default_factory=EmaConfig)
    cluster: ClusterConfig = group(ClusterConfig, may_change=True)
    engine: EngineConfig = field(default_factory=EngineConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    finetune: FinetuneConfig = field(default_factory=FinetuneConfig)
    eval: EvalConfig = field(default_factory=EvalConfig)
    predict: PredictConfig = group(PredictConfig, may_change=True)
    checkpoint: CheckpointConfig = group(CheckpointConfig, may_change=True)
    run: RunConfig = group(RunConfig, may_change=True)
    logger: LoggerConfig = group(LoggerConfig, may_change=True)
    sweep: SweepConfig = group(SweepConfig, may_change=True)
    launch: LaunchConfig = group(LaunchConfig, may_change=True)
    recipe: RecipeConfig = group(RecipeConfig, may_change=True)
    weights: Any = option(
        None,
        "xlatrain train: what to start from, a safetensors file of a run or of timm, or the folder of a run, a "
        "checkpoint, a model of timm's or a bundle; xlatrain eval, predict, export: a run, or its weights.safetensors, "
        "or the weights_raw.safetensors beside it; a run by its folder or by its name under run.root; files also as "
        "gs://, s3:// or https:// addresses; model, size, mean, std, crop and precision are the file's unless "
        "given; for eval and predict also several, as in [a,b], whose probabilities are averaged",
    )


# Schemas of the groups whose choices have options of their own; conf/<group>/<choice>.yaml starts from one.
VARIANTS: dict[str, dict[str, type]] = {
    "optimizer": {
        "sgd": SGDConfig,
        "rmsprop_tf": RMSpropTFConfig,
        "adamw": AdamWConfig,
        "lars": LARSConfig,
        "lamb": LAMBConfig,
    },
    "data": {"shards": ShardsConfig, "digits": DigitsConfig, "synthetic": SyntheticConfig, "own": OwnDataConfig},
}
