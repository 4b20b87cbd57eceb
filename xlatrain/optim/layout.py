"""Layout: many named tensors as one flat one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch

from xlatrain.words import counted

LANES = 1024  # 8 x 128: one float32 tile of a TPU. Each tensor starts on a tile, so slices need no shifting.
_KERNEL, _BACK = (2, 3, 1, 0), (3, 2, 0, 1)  # [O, I, h, w] to [h, w, I, O], and back


@dataclass(frozen=True)
class Layout:
    """Where each named tensor lies in a flat one.

    Tensor i has shapes[i] and takes rows[i] rows of LANES values, zero-padded, from row offsets[i]. The first
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
        rows = tuple(max(1, -(-shape.numel() // LANES)) for shape in self.shapes)
        object.__setattr__(self, "rows", rows)
        object.__setattr__(self, "offsets", tuple(sum(rows[:i]) for i in range(len(rows))))

    @property
    def size(self) -> int:
        """Values in the flat tensor, padding included."""
        return sum(self.rows) * LANES

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
            if gap := rows * LANES - tensor.numel():
                parts.append(torch.zeros(gap, device=tensor.device))
        return torch.cat(parts)

    def unpack(self, flat: torch.Tensor) -> dict[str, torch.Tensor]:
        """A flat tensor [size] to named tensors of their own shapes. Whole rows first: of a flat slice the TPU's
        compiler reshapes all parameters to the shape of one, which costs B2 3.2 ms a step on v3."""
        table = flat.view(-1, LANES)
        tensors = {}
        for name, shape, start, rows in zip(self.names, self.shapes, self.offsets, self.rows, strict=True):
            values = table[start : start + rows].reshape(-1)[: shape.numel()]
            if len(shape) == 4:
                tensors[name] = values.reshape([shape[i] for i in _KERNEL]).permute(_BACK)
            else:
                tensors[name] = values.reshape(shape)
        return tensors

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
