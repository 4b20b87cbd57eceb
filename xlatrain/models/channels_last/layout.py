"""[N, H, W, C] as batch norm sees it."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from xlatrain.models.channels_last.sums import channel_sums


@dataclass(frozen=True)
class ChannelsLast:
    """models/batch_norm.py: Layout."""

    axes = (0, 1, 2)
    split = None

    def spread(self, values: torch.Tensor) -> torch.Tensor:
        return values

    def sum(self, x: torch.Tensor) -> torch.Tensor:
        return channel_sums(x)

    def mean(self, x: torch.Tensor) -> torch.Tensor:
        return channel_sums(x) / self.count(x)

    def count(self, x: torch.Tensor) -> int:
        return x.numel() // x.shape[3]

    def inside(self, device: torch.device) -> torch.Tensor | None:
        return None
