"""The part of the schema that describes data: where images come from, and what is done to them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from omegaconf import MISSING

from xlatrain.config.option import option


@dataclass
class DataConfig:
    name: str = MISSING
    image_size: int = option(MISSING, "height and width that the model sees", "pixels", low=1)
    num_classes: int | None = option(None, "null = what the data set says", low=1)
    mean: list[float] = option([0.485, 0.456, 0.406], "per channel, of images in 0..1")
    std: list[float] = option([0.229, 0.224, 0.225], "per channel, of images in 0..1")
    repeats: int = option(
        1,
        "repeated augmentation: so many views of each image in a training batch, on replicas apart; an epoch stays as "
        "long, and sees this part of the images",
        low=1,
    )
    _target_: str | None = option(
        None,
        "data of your own instead, as in my.module.Photos: called with split and kwargs, gives a torch Dataset of "
        "(image, label)",
    )
    kwargs: dict[str, Any] = option({}, "arguments for data._target_, beside split, which is train or val")


@dataclass
class ImagesConfig(DataConfig):
    """Images of any size, which the host brings to the size that the model sees."""

    interpolation: str = option("bicubic", "filter of the resize, antialiased", choices=("bicubic", "bilinear"))
    eval_padding: int = option(
        32,
        "evaluate on the centre square of size / (size + this) of the shorter side: 32 is the papers', 0 all",
        "pixels",
        low=0,
    )
    eval_ratio: float | None = option(None, "share of the shorter side instead, as in 0.875", low=0.01, high=1)
    workers: int | None = option(
        None,
        "processes that prepare images, per host process; 0 = a thread; null = 0 on CPU, on TPU one less than it has "
        "cores",
        low=0,
        may_change=True,
    )
    streams: int | None = option(
        None,
        "contiguous parts of an epoch that are read at once, each for its own rows of every batch of training: as many "
        "give the same batches, whatever reads them; null = 8, or as many as all workers of the run where these are "
        "more",
        low=1,
    )
    prefetch: int = option(2, "batches prepared ahead, for each worker", low=1, may_change=True)


@dataclass
class OwnDataConfig(ImagesConfig):
    """What counts of the options of a group once it has a _target_."""

    name: str = "own"


@dataclass
class ShardsConfig(ImagesConfig):
    name: str = "shards"
    root: str = option(
        MISSING, "folder or URL (gs://, s3://, https://) of train/ and val/, each of tar shards and an index.json"
    )
    train: str = option(
        "train", "the training split: a folder under root, or anywhere; braces name several, as in part-{0..3}"
    )
    val: str = option("val", "the validation split, likewise")
    decoder: str = option(
        "auto",
        "of JPEGs: simplejpeg; nvimgcodec, which decodes only the crop and comes with the extra fast-decode; auto = "
        "the faster one that is installed",
        choices=("auto", "simplejpeg", "nvimgcodec"),
    )
    max_pixels: int = option(64_000_000, "images of more are refused before they are decoded", "pixels", low=1)
    shuffle_window: int = option(
        1024,
        "samples of one stream that are shuffled together; of each stream up to twice as many are held, encoded",
        "samples",
        low=1,
    )
    on_error: str = option(
        "raise", "a sample that cannot be decoded ends the run, or is skipped and counted", choices=("raise", "skip")
    )
    retries: int = option(8, "remote data: attempts in a row without a byte before giving up", low=0, may_change=True)
    retry_wait: float = option(
        0.5, "remote data: before the first new attempt, doubled each time", "seconds", low=0, may_change=True
    )
    read_ahead_mb: float = option(
        8.0, "remote data: read ahead of decoding, for each worker", "MB", low=0.1, may_change=True
    )
    cache: str | None = option(
        None, "remote data: folder that keeps shards, shared by the processes of a host", may_change=True
    )
    cache_gb: float | None = option(
        None, "size that the cache stays within; null = no limit", "GB", low=0, may_change=True
    )


@dataclass
class DigitsConfig(ShardsConfig):
    name: str = "digits"
    root: str = option("", "cache folder for the shards; empty = the user's cache")
    val_fraction: float = option(0.2, "of the 1,797 images, stratified by class", low=0, high=1)


@dataclass
class SyntheticConfig(DataConfig):
    name: str = "synthetic"
    num_classes: int | None = option(1000, "labels are drawn from these", low=1)
    train_examples: int = option(1_281_167, "images in an epoch", low=1)
    val_examples: int = option(50_000, "images in an evaluation", low=0)


@dataclass
class AugmentConfig:
    name: str = MISSING
    crop: str = option(
        "centre",
        "what training sees of an image, on the host: the centre, as evaluation; square = as large a square anywhere; "
        "tf = a random part, as the TPU code draws it; torchvision = as RandomResizedCrop draws it",
        choices=("centre", "square", "tf", "torchvision"),
    )
    min_area: float = option(0.08, "smallest share of the image in a random crop", low=0.001, high=1)
    shift: int = option(
        0, "random translation on the host, each way, with edge padding", "pixels of the image the model sees", low=0
    )
    jitter: list[float] = option([], "colour jitter on the host: brightness, contrast, saturation, as in [0.4,0.4,0.4]")
    policy: str = option("none", "on the host, after the crop", choices=("none", "autoaugment", "randaugment"))
    layers: int = option(2, "randaugment: operations in turn", low=1)
    magnitude: float = option(10.0, "randaugment: strength of each, of 10", low=0, high=30)
    probability: float = option(0.5, "randaugment: that a chosen operation is applied", low=0, high=1)
    flip: bool = option(False, "random horizontal flip, on the device")
    mixup: float = option(0.0, "alpha of mixup's Beta distribution, on the device; 0 = off", low=0)
    cutmix: float = option(0.0, "alpha of cutmix's Beta distribution, on the device; 0 = off", low=0)
    erase: float = option(
        0.0, "probability of erasing a random box (2 to 33 % of the image) to noise, on the device", low=0, high=1
    )
    cutout: int = option(
        0, "side of a square of each image that is set to 0, the mean, on the device; 0 = off", "pixels", low=0
    )
    sizes: list[Any] = option(
        [],
        "progressive resizing: image sizes in turn, as in [{until: 18ep, size: 128}, {until: 31ep, size: 224, batch: "
        "8192, lr: 0.5}, {size: 288, min_area: 0.5}]; batch: of all replicas, lr: factor on the schedule",
    )
