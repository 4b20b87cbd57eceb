"""Many named tensors as one flat one (Layout), and per-tensor numbers of it: norms out, factors in (Segments)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch

from xlatrain.words import counted

ROW = 1024  # 8 x 128, as a TPU lays float32 in its memory. Each tensor starts on a row: slices need no shifting.
_KERNEL, _BACK = (2, 3, 1, 0), (3, 2, 0, 1)  # [O, I, h, w] to [h, w, I, O], and back


@dataclass(frozen=True)
class Layout:
    """Where each named tensor lies in a flat one.

    Tensor i has shapes[i] and takes rows[i] rows of ROW values, zero-padded, from row offsets[i]. The first
    `decayed` tensors are those that weight decay and layer adaptation apply to; the rest are exempt. The first
    `not_norm` tensors are all but the parameters of norms.
    """

    names: tuple[str, ...]
    shapes: tuple[torch.Size, ...]
    decayed: int
    not_norm: int = 0
    rows: tuple[int, ...] = field(init=False)
    offsets: tuple[int, ...] = field(init=False)

    def __post_init__(self) -> None:
        rows = tuple(max(1, -(-shape.numel() // ROW)) for shape in self.shapes)
        object.__setattr__(self, "rows", rows)
        object.__setattr__(self, "offsets", tuple(sum(rows[:i]) for i in range(len(rows))))

    @property
    def size(self) -> int:
        """Values in the flat tensor, padding included."""
        return sum(self.rows) * ROW

    def pack(self, tensors: Mapping[str, torch.Tensor] | Sequence[torch.Tensor]) -> torch.Tensor:
        """Named tensors, or all in order, to one flat float32 tensor [size].

        Kernels of convolutions [O, I, h, w] lie as [h, w, I, O]: a TPU wants channels in its lanes, and to bring 3 x 3
        values there takes 2.7 ms for each kernel of ResNet-50's last stage, half of its step on v3.
        """
        ordered = [tensors[n] for n in self.names] if isinstance(tensors, Mapping) else list(tensors)
        if not ordered:
            return torch.zeros(0)
        parts: list[torch.Tensor] = []
        for tensor, rows in zip(ordered, self.rows, strict=True):
            values = tensor.detach().permute(_KERNEL) if tensor.ndim == 4 else tensor.detach()
            parts.append(values.reshape(-1).float())
            if gap := rows * ROW - tensor.numel():
                parts.append(torch.zeros(gap, device=tensor.device))
        return torch.cat(parts)

    def unpack(self, flat: torch.Tensor) -> dict[str, torch.Tensor]:
        """A flat tensor [size] to named tensors of their own shapes. Whole rows first: of a flat slice the TPU's
        compiler reshapes all parameters to the shape of one, which costs B2 3.2 ms a step on v3."""
        table = flat.view(-1, ROW)
        tensors = {}
        for name, shape, start, rows in zip(self.names, self.shapes, self.offsets, self.rows, strict=True):
            values = table[start : start + rows].reshape(-1)[: shape.numel()]
            if len(shape) == 4:
                tensors[name] = values.reshape([shape[i] for i in _KERNEL]).permute(_BACK)
            else:
                tensors[name] = values.reshape(shape)
        return tensors

    def places(self) -> list[tuple[str, int, tuple[int, ...], tuple[int, ...] | None]]:
        """Where each tensor lies, in words for others: its name, its first value, the shape that it has there, and the
        axes to transpose that by, or None."""
        found = []
        for name, shape, start in zip(self.names, self.shapes, self.offsets, strict=True):
            kernel = len(shape) == 4
            lies = tuple(shape[i] for i in _KERNEL) if kernel else tuple(shape)
            found.append((name, start * ROW, lies, _BACK if kernel else None))
        return found

    def segments(self) -> torch.Tensor:
        """For each row of a flat tensor the index of the tensor it belongs to: int32 [rows]."""
        return torch.repeat_interleave(torch.arange(len(self.rows), dtype=torch.int32), torch.tensor(self.rows))

    def describe_groups(self) -> str:
        """How many tensors and values weight decay and layer adaptation apply to, and how many are exempt."""
        counts = [shape.numel() for shape in self.shapes]
        decayed, exempt = counts[: self.decayed], counts[self.decayed :]
        return (
            f"decayed and adapted: {counted(len(decayed), 'tensor')} with {counted(sum(decayed), 'value')}; "
            f"exempt: {len(exempt)} with {sum(exempt):,}"
        )


@dataclass(frozen=True)
class Segments:
    """The tensors inside a flat one, for use inside a captured step.

    index: int32 [rows], the tensor that each row of ROW values belongs to, on the device (Layout.segments()).
    """

    layout: Layout
    index: torch.Tensor

    def norms(self, flat: torch.Tensor) -> torch.Tensor:
        """L2 norm of each tensor: float32 [tensors].

        Squares to rows, rows to tensors, each scaled by its largest value, so that squares neither overflow nor vanish
        and the norm is right wherever float32 can hold it. The second reduction compares each row's tensor index with
        all indices, exact in float32 and, unlike a scatter, parallel on a TPU.
        """
        rows = flat.view(-1, 8, ROW // 8)
        row_largest = rows.abs().amax((1, 2))
        largest = self._by_tensor(row_largest).amax(0)
        row_scale, scale = (torch.where(m > 0, m, torch.ones_like(m)) for m in (row_largest, largest))
        squares = (rows / row_scale[:, None, None]).square().sum((1, 2))
        share = (row_scale / scale.index_select(0, self.index)).square() * squares
        return scale * self._by_tensor(share).sum(0).sqrt()

    def largest(self, flat: torch.Tensor) -> torch.Tensor:
        """Largest absolute value of each tensor: float32 [tensors]."""
        rows = flat.abs().view(-1, 8, ROW // 8).amax((1, 2))
        return self._by_tensor(rows).amax(0)

    def spread(self, values: torch.Tensor) -> torch.Tensor:
        """One value per tensor [tensors] to one per element [size]."""
        rows = values.index_select(0, self.index)
        return rows[:, None].expand(-1, ROW).reshape(-1)

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
        return (self.index < first)[:, None].expand(-1, ROW).reshape(-1)

    def _by_tensor(self, rows: torch.Tensor) -> torch.Tensor:
        """One value per row, in the column of the tensor that the row belongs to: [rows, tensors], else 0."""
        tensors = torch.arange(len(self.layout.names), device=rows.device, dtype=self.index.dtype)
        mine = self.index[:, None] == tensors[None, :]
        return torch.where(mine, rows[:, None], torch.zeros_like(rows[:, None]))
