"""Augmentation on the device, inside the captured step: one graph, random numbers anew at each step."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F

QUANTILES = 4097  # points at which Beta's inverse distribution is tabulated: no device samples it


@dataclass(frozen=True)
class Mix:
    """Blend each image with its partner: mixup (arXiv:1710.09412), cutmix (arXiv:1905.04899), or one of the two by a
    coin for each batch. The partner is the image at the mirrored place of the batch, as in the TPU code."""

    mixup: bool
    cutmix: bool

    def __call__(
        self, images: torch.Tensor, mixup_quantiles: torch.Tensor | None, cutmix_quantiles: torch.Tensor | None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """images [N, C, H, W] to blended images, and the share of each image's own label: float32 [N]. Quantiles of
        Beta(alpha, alpha) at QUANTILES even steps of probability, of each kind that is on."""
        partner = images.flip(0)
        if not self.cutmix:
            return mixup(images, partner, draw_beta(len(images), mixup_quantiles))
        pasted, kept = cutmix(images, partner, draw_beta(len(images), cutmix_quantiles))
        if not self.mixup:
            return pasted, kept
        blended, share = mixup(images, partner, draw_beta(len(images), mixup_quantiles))
        coin = torch.rand(1, device=images.device) < 0.5
        return torch.where(coin, blended, pasted), torch.where(coin, share, kept)


def mixup(images: torch.Tensor, partner: torch.Tensor, share: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """share·image + (1 - share)·partner, with share of at least one half, as the TPU code has it."""
    share = torch.maximum(share, 1.0 - share)
    return torch.lerp(partner, images, share.view(-1, 1, 1, 1)), share


def cutmix(images: torch.Tensor, partner: torch.Tensor, share: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Paste a box of the partner, of area 1 - share before it is cut at the border, at a random place of each image.
    Returns the images and the share that is left, counted in pixels."""
    n, _, height, width = images.shape
    side = torch.sqrt(1.0 - share)
    inside = torch.ones(n, 1, height, width, device=images.device, dtype=torch.bool)
    for size, shape in ((height, (1, 1, height, 1)), (width, (1, 1, 1, width))):
        centre = torch.rand(n, device=images.device) * size
        low, high = centre - side * size / 2, centre + side * size / 2
        place = torch.arange(size, device=images.device).float().view(shape) + 0.5
        inside = inside & (place > low.view(-1, 1, 1, 1)) & (place < high.view(-1, 1, 1, 1))
    return torch.where(inside, partner, images), 1.0 - inside.float().mean((1, 2, 3))


def random_erase(images: torch.Tensor, probability: float) -> torch.Tensor:
    """Fill a random box of each image [N, C, H, W] with normal noise, with the given probability (arXiv:1708.04896; per
    pixel, as timm's "pixel" mode): 2 to 33 % of the area, its height to width log-uniform in 0.3 to 3.3, its place
    uniform. A box that does not fit is cut to the image, where the paper draws again: a program has no loop to draw in.
    """
    n, _, height, width = images.shape
    share = 0.02 + (1 / 3 - 0.02) * torch.rand(n, device=images.device)
    limit = math.log(10 / 3)
    aspect = torch.exp(limit * (2.0 * torch.rand(n, device=images.device) - 1.0))
    inside = (torch.rand(n, 1, 1, 1, device=images.device) < probability).expand(n, 1, height, width)
    for size, ratio, shape in ((height, aspect, (1, 1, height, 1)), (width, 1.0 / aspect, (1, 1, 1, width))):
        length = torch.clamp(torch.sqrt(share * (height * width) * ratio), max=float(size))
        low = torch.rand(n, device=images.device) * (size - length)
        place = torch.arange(size, device=images.device).float().view(shape) + 0.5
        inside = inside & (place > low.view(-1, 1, 1, 1)) & (place < (low + length).view(-1, 1, 1, 1))
    return torch.where(inside, torch.randn_like(images), images)


def cutout(images: torch.Tensor, side: int) -> torch.Tensor:
    """Set a square of each image [N, C, H, W] to 0, at a uniformly random place within it: cutout as cifar10-fast draws
    it, where arXiv:1708.04552 lets the square lie over the border."""
    n, _, height, width = images.shape
    inside = torch.ones(n, 1, height, width, device=images.device, dtype=torch.bool)
    for size, shape in ((height, (1, 1, height, 1)), (width, (1, 1, 1, width))):
        length = min(side, size)
        low = (torch.rand(n, device=images.device) * (size + 1 - length)).floor().view(-1, 1, 1, 1)
        place = torch.arange(size, device=images.device).float().view(shape)
        inside = inside & (place >= low) & (place < low + length)
    return torch.where(inside, torch.zeros_like(images), images)


def draw_beta(count: int, quantiles: torch.Tensor) -> torch.Tensor:
    """Numbers of the distribution whose quantiles are given: float32 [count], by linear interpolation."""
    position = torch.rand(count, device=quantiles.device) * (len(quantiles) - 1)
    below = position.floor()
    low = quantiles.index_select(0, below.long())
    high = quantiles.index_select(0, (below.long() + 1).clamp_max(len(quantiles) - 1))
    return low + (high - low) * (position - below)


def beta_quantiles(alpha: float) -> torch.Tensor:
    """Beta(alpha, alpha) at QUANTILES even steps of probability: float32, on the host."""
    import numpy as np
    from scipy.stats import beta

    return torch.tensor(beta.ppf(np.linspace(0.0, 1.0, QUANTILES), alpha, alpha), dtype=torch.float32)


def mixed_cross_entropy(
    logits: torch.Tensor, labels: torch.Tensor, share: torch.Tensor | None, smoothing: float
) -> torch.Tensor:
    """Mean cross entropy; with a share, that much against each label and the rest against its partner's."""
    if share is None:
        return F.cross_entropy(logits, labels, label_smoothing=smoothing)
    own, other = (
        F.cross_entropy(logits, target, label_smoothing=smoothing, reduction="none")
        for target in (labels, labels.flip(0))
    )
    return (share * own + (1.0 - share) * other).mean()


def mixed_binary_cross_entropy(
    logits: torch.Tensor, labels: torch.Tensor, share: torch.Tensor | None, smoothing: float, threshold: float | None
) -> torch.Tensor:
    """Mean over images and classes of the cross entropy of a yes or no for each class, float32 []: with the targets of
    timm's BinaryCrossEntropy, smoothed, mixed by the share, and cut at a threshold where there is one."""
    classes = logits.shape[1]
    index = torch.arange(classes, device=logits.device)[None, :]

    def target_of(of: torch.Tensor) -> torch.Tensor:
        return smoothing / classes + (1.0 - smoothing) * (index == of[:, None]).float()

    target = target_of(labels)
    if share is not None:
        target = torch.lerp(target_of(labels.flip(0)), target, share[:, None])
    if threshold is not None:
        target = (target > threshold).float()
    return F.binary_cross_entropy_with_logits(logits, target)


def normalise(images: torch.Tensor, mean: torch.Tensor, std: torch.Tensor) -> torch.Tensor:
    """uint8 [N, H, W, 3] in 0..255 to float32 [N, 3, H, W]; mean and std [3] are of images in 0..1."""
    return ((images.float() - 255.0 * mean) / (255.0 * std)).permute(0, 3, 1, 2)


def random_flip(images: torch.Tensor) -> torch.Tensor:
    """Mirror each image [N, C, H, W] left to right with probability one half."""
    coin = torch.rand(len(images), 1, 1, 1, device=images.device) < 0.5
    return torch.where(coin, images.flip(3), images)
