"""How fast each tensor moves, and from which step on: layer-wise rates, and a head that moves before the rest.

Around the update of any optimizer, by its change of the parameters: `scales` times it, which is what a learning rate of
so much does wherever a change is proportional to the rate, as in all of xlatrain's (of LARC's limit, the scale comes
after it). Before its first step a tensor has no gradient, its slots stay at their first values, and an optimizer that
counts updates counts those of the tensor.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from xlatrain.optim.flat import Segments

Tensors = dict[str, torch.Tensor]


@dataclass(frozen=True)
class Pace:
    """Of all parameters at one step; what is None costs nothing and is not in the program.

    scale: float32 [size], factor on a change. moving: bool [size], what has come to its first step. before: float32
    [size], steps of the run before that.
    """

    scale: torch.Tensor | None = None
    moving: torch.Tensor | None = None
    before: torch.Tensor | None = None

    @classmethod
    def at(
        cls, step: torch.Tensor, scales: torch.Tensor | None, moves_from: torch.Tensor | None, segments: Segments
    ) -> Pace:
        """step: int64 [], from 0. scales: float32 [tensors]. moves_from: int64 [tensors], the first step of each."""
        scale = None if scales is None else segments.spread(scales)
        if moves_from is None:
            return cls(scale)
        return cls(scale, segments.spread(step >= moves_from), segments.spread(moves_from.float()))

    def of_gradient(self, gradient: torch.Tensor) -> torch.Tensor:
        """The gradient, 0 of what does not move yet, so that it counts in no norm either."""
        return gradient if self.moving is None else torch.where(self.moving, gradient, torch.zeros_like(gradient))

    def of_updates(self, updates: torch.Tensor) -> torch.Tensor:
        """How many updates a value has had, this one included: [] or [size]."""
        return updates if self.before is None else torch.clamp(updates - self.before, min=1.0)

    def of_update(
        self, old: torch.Tensor, old_slots: Tensors, new: torch.Tensor, slots: Tensors
    ) -> tuple[torch.Tensor, Tensors]:
        """Parameters and slots after an update, from those before it and what the optimizer made of them."""
        if self.scale is not None:
            new = torch.lerp(old, new, self.scale)
        if self.moving is not None:
            new = torch.where(self.moving, new, old)
            slots = {name: torch.where(self.moving, slot, old_slots[name]) for name, slot in slots.items()}
        return new, slots
