"""Per-tensor numbers of a flat tensor: norms out of it, factors into it."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from xlatrain.optim.layout import LANES, Layout


@dataclass(frozen=True)
class Segments:
    """The tensors inside a flat one, for use inside a captured step.

    index: int32 [rows], the tensor that each row of LANES values belongs to, on the device (Layout.segments()).
    """

    layout: Layout
    index: torch.Tensor

    def norms(self, flat: torch.Tensor) -> torch.Tensor:
        """L2 norm of each tensor: float32 [tensors].

        Squares to rows, rows to tensors, each scaled by its largest value, so that squares neither overflow nor vanish
        and the norm is right wherever float32 can hold it. The second reduction compares each row's tensor index with
        all indices, exact in float32 and, unlike a scatter, parallel on a TPU.
        """
        rows = flat.view(-1, 8, LANES // 8)
        row_largest = rows.abs().amax((1, 2))
        largest = self._by_tensor(row_largest).amax(0)
        row_scale, scale = (torch.where(m > 0, m, torch.ones_like(m)) for m in (row_largest, largest))
        squares = (rows / row_scale[:, None, None]).square().sum((1, 2))
        share = (row_scale / scale.index_select(0, self.index)).square() * squares
        return scale * self._by_tensor(share).sum(0).sqrt()

    def largest(self, flat: torch.Tensor) -> torch.Tensor:
        """Largest absolute value of each tensor: float32 [tensors]."""
        rows = flat.abs().view(-1, 8, LANES // 8).amax((1, 2))
        return self._by_tensor(rows).amax(0)

    def spread(self, values: torch.Tensor) -> torch.Tensor:
        """One value per tensor [tensors] to one per element [size]."""
        rows = values.index_select(0, self.index)
        return rows[:, None].expand(-1, LANES).reshape(-1)

    def decayed(self) -> torch.Tensor:
        """True where weight decay and layer adaptation apply: bool [size]."""
        return self._by_row(self.layout.decayed)

    def not_norm(self) -> torch.Tensor:
        """True for all but the parameters of norms: bool [size]."""
        return self._by_row(self.layout.not_norm)

    def is_decayed(self) -> torch.Tensor:
        """True for the tensors that weight decay and layer adaptation apply to: bool [tensors]."""
        return torch.arange(len(self.layout.names), device=self.index.device, dtype=torch.int32) < self.layout.decayed

    def _by_row(self, first: int) -> torch.Tensor:
        """True for the values of the first tensors: bool [size]. Of the row index: torch_xla writes an arange into the
        program as data, 4 bytes a parameter."""
        return (self.index < first)[:, None].expand(-1, LANES).reshape(-1)

    def _by_tensor(self, rows: torch.Tensor) -> torch.Tensor:
        """One value per row, in the column of the tensor that the row belongs to: [rows, tensors], else 0."""
        tensors = torch.arange(len(self.layout.names), device=rows.device, dtype=self.index.dtype)
        mine = self.index[:, None] == tensors[None, :]
        return torch.where(mine, rows[:, None], torch.zeros_like(rows[:, None]))
