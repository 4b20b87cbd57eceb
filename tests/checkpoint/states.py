"""A small state of all kinds of tensors, and what it takes to write it."""

import torch

FACTS = {"metrics": {"top1": 0.5, "loss": float("nan")}, "position": {"epoch": 1}}


def state(step=7):
    generator = torch.Generator().manual_seed(step)
    return {
        "params": torch.randn(3000, generator=generator),
        "slots/momentum": torch.tensor([0.0, -0.0, float("nan"), float("inf"), 1e-42]),
        "buffers": torch.randn(4, 100, generator=generator),
        "empty": torch.zeros(0),
        "half": torch.randn(3, generator=generator).bfloat16(),
        "step": torch.tensor(step),
    }


def same_bits(one, other):
    return one.keys() == other.keys() and all(
        one[n].dtype == other[n].dtype
        and one[n].shape == other[n].shape
        and torch.equal(one[n].reshape(-1).view(torch.uint8), other[n].reshape(-1).view(torch.uint8))
        for n in one
    )
