"""Parameters of every kind in small, and what is drawn for them."""

import torch

from xlatrain.optim.flat import Layout

SHAPES = {"conv": (8, 3, 3, 3), "wide": (40, 60), "dense": (10, 8), "bias": (10,), "bn.weight": (8,), "bn.bias": (8,)}


DECAYED = 3


def layout():
    return Layout(tuple(SHAPES), tuple(torch.Size(s) for s in SHAPES.values()), DECAYED, DECAYED + 1)


def fixed_tensors(step):
    random = torch.Generator().manual_seed(step)
    return {n: torch.randn(s, generator=random) for n, s in SHAPES.items()}
