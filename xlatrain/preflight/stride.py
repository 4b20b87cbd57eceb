"""Images that are smaller than what a model makes one pixel of."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn


def describe_small_images(name: str, model: nn.Module | None, sizes: Sequence[int], key: str) -> str | None:
    """That some images are smaller than the model's stride, so that its last layers see one pixel and padding; None
    where none is, or the model does not tell. Not a fault: such a model trains, and small ones are for rehearsals.
    sizes: of images in pixels. key: the option that they come from."""
    stride, least = total_stride(model), min(sizes)
    if stride is None or least >= stride:
        return None
    return (
        f"warning: {key} has images of {least} pixels, and {name} makes one pixel of {stride}: its last layers see "
        f"little but padding; take {stride} or more, better {4 * stride}, or a model of smaller stride"
    )


def total_stride(model: Any) -> int | None:
    """How many pixels of an image, along a side, become one of the last features, as a model of timm's says."""
    told = getattr(model, "feature_info", None)
    told = getattr(told, "info", told)  # a list of dicts, or what holds one
    try:
        return max(int(stage["reduction"]) for stage in told)
    except (TypeError, KeyError, ValueError):
        return None
