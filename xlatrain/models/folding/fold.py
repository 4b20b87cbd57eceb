"""A model changed in place to compute its first stages on folded images."""

from __future__ import annotations

from dataclasses import replace

from timm.models._efficientnet_blocks import InvertedResidual, SqueezeExcite
from torch import nn

from xlatrain.models.folding.choose import BlockFolds, Folds
from xlatrain.models.folding.geometry import Axis, Layout
from xlatrain.models.folding.layers import FoldedConv2d, FoldedSqueezeExcite, Refold


def fold_layers(model: nn.Module, folds: Folds, image_size: int) -> None:
    """Change a model whose batch norms are GroupedBatchNorms. Names and parameters stay."""
    image = Axis(image_size)
    model.conv_stem = FoldedConv2d(model.conv_stem, Layout(image, image, 3), folds.stem, enters=True)
    model.bn1.layout = here = folds.stem  # of what the layer before leaves; None for [N, C, H, W]
    for i, stage in model.blocks.named_children():
        modules: dict[str, nn.Module] = {}
        for j, block in stage.named_children():
            name = f"blocks.{i}.{j}"
            found = folds.blocks.get(name)
            if (wanted := found.before if found else None) != here:
                modules[f"fold{j}" if wanted else f"unfold{j}"] = _between(here, wanted)
            modules[j] = block
            if found:
                _fold_block(block, found)
            here = found.after if found else None
        last = stage
        stage._modules = modules
    if here is not None:
        last.add_module("unfold", _between(here, None))


def _fold_block(block: nn.Module, folds: BlockFolds) -> None:
    if type(block) is InvertedResidual:
        block.conv_pw = FoldedConv2d(block.conv_pw, folds.before, folds.wide)
        block.bn1.layout, block.bn2.layout, block.bn3.layout = folds.wide, folds.narrow, folds.after
        block.conv_pwl = FoldedConv2d(block.conv_pwl, folds.narrow, folds.after)
    else:
        block.bn1.layout, block.bn2.layout = folds.narrow, folds.after
        block.conv_pw = FoldedConv2d(block.conv_pw, folds.narrow, folds.after)
    block.conv_dw = FoldedConv2d(block.conv_dw, folds.wide, folds.narrow)
    if isinstance(block.se, SqueezeExcite):
        block.se = FoldedSqueezeExcite(block.se, folds.narrow)


def _between(here: Layout | None, wanted: Layout | None) -> Refold:
    """From one layout to another; None is [N, C, H, W]."""
    known = here or wanted
    plain = replace(known, rows=Axis(known.rows.size), columns=Axis(known.columns.size), group=None)
    return Refold(here or plain, wanted or plain, enters=here is None, leaves=wanted is None)
