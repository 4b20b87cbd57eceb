"""Options that do not go together."""

from __future__ import annotations

import math

from xlatrain.config.schema import AugmentConfig, Config, ShardsConfig
from xlatrain.errors import Fault


def find_contradictions(config: Config) -> list[Fault]:
    """Options that another one makes meaningless: to ignore them in silence would mislead."""
    g, s, c, a, d = config.gradient, config.schedule, config.scaling, config.augment, config.data
    m, o, t = config.model, config.optimizer, config.train
    plain = (g.exponent_bits, g.mantissa_bits) == (8, 23)
    scaled = c.lr_per_256 is not None or c.base_lr is not None
    warms_up = (s.warmup or s.default_warmup).strip() not in ("0step", "0ep")
    ra = ("layers", "magnitude", "probability")
    found = [
        (plain and (g.kahan or g.scale or g.fp32_last_layer), "gradient", "kahan, scale, fp32_last_layer are for less "
         "than float32", "name a format, as in gradient=e5m2_aps"),
        (g.kahan and g.sum == "float32", "gradient.kahan", "has no rounding to carry when sums are in float32",
         "take gradient.sum=ordered"),
        (s.name == "piecewise" and scaled, "scaling", "schedule=piecewise has its learning rates in schedule.points",
         "scale the points themselves"),
        (s.name in ("piecewise", "onecycle") and warms_up, "schedule.warmup",
         f"schedule={s.name} begins with its own rise", "take schedule.warmup=0step"),
        (s.length is not None and s.name not in ("cosine", "polynomial"), "schedule.length",
         f"schedule={s.name} has no length of its own", "leave it out"),
        (s.warmup_shape == "constant" and s.warmup_lr == 0 and warms_up,
         "schedule.warmup_lr", "0 all along the warm-up trains nothing", "give schedule.warmup_lr"),
        (c.lr_per_256 is not None and c.base_batch != 256, "scaling.base_batch", "belongs to base_lr; lr_per_256 is "
         "for a batch of 256", "take scaling.base_lr instead of lr_per_256"),
        (bool(a.jitter) and (len(a.jitter) != 3 or not all(0 <= j < math.inf for j in a.jitter)), "augment.jitter",
         f"{a.jitter} are not three numbers from 0 on", "give brightness, contrast and saturation: [0.4,0.4,0.4]"),
        (a.policy != "randaugment" and any(getattr(a, k) != getattr(AugmentConfig, k) for k in ra), "augment",
         f"layers, magnitude and probability are RandAugment's, and the policy is {a.policy}",
         "take augment.policy=randaugment"),
        (a.crop in ("centre", "square") and a.min_area != AugmentConfig.min_area, "augment.min_area",
         "is of random crops of any size", "take augment.crop=tf"),
        (a.cutout > d.image_size, "augment.cutout", f"{a.cutout} pixels are more than the image's {d.image_size}",
         "take fewer"),
        (t.bce_threshold is not None and t.loss == "cross_entropy", "train.bce_threshold", "is for "
         "train.loss=binary_cross_entropy", "leave it out, or take that loss"),
        (isinstance(d, ShardsConfig) and d.cache_gb is not None and d.cache is None, "data.cache_gb",
         "there is no cache to limit", "name a folder: data.cache=/tmp/cache"),
        (config.cluster.replicas is None and config.cluster.platform != "gpu", "cluster.replicas", "null, all that "
         "there are, is for GPUs", "give a number, as in cluster.replicas=8"),
        (bool(d.kwargs) and not d._target_, "data.kwargs", "are for data._target_", "leave them out, or name it"),
        (bool(o.kwargs) and not o._target_, "optimizer.kwargs", "are for optimizer._target_",
         "leave them out, or name it"),
        (bool(m._target_) and m.pretrained, "model.pretrained", "is for timm's models, and model._target_ names one of "
         "your own", "name its file: weights=FILE"),
        (m.pretrained and config.weights is not None, "weights", "and model.pretrained=true are two beginnings",
         "leave one of them out"),
        ((m.pretrained or config.weights is not None) and bool({"pretrained", "checkpoint_path"} & set(m.kwargs)),
         "model.kwargs", "pretrained and checkpoint_path are a beginning beside weights or model.pretrained",
         "leave them out"),
        (m.layout == "channels_last" and m.depthwise not in ("auto", "shift"), "model.layout",
         "channels_last computes depthwise convolutions as shifts", "leave model.depthwise out, or model.layout"),
        (bool(m._target_) and not (m.drop_rate is m.drop_path_rate is m.pool is None), "model", "drop_rate, "
         "drop_path_rate and pool are for timm's models, and model._target_ names one of your own",
         "give it what it takes: +model.kwargs.NAME=value"),
    ]  # fmt: skip
    return [Fault(key, problem, cure) for wrong, key, problem, cure in found if wrong]
