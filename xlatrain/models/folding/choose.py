"""The rule: which layers of a model are computed on folded images, and folded how.

Stem and first stage always, on folds of 2 x 2 pixels: none of their few channels fills the lanes in any other way.
Behind them the blocks that `cost` finds cheaper folded, each in the form that it finds cheapest: for EfficientNets the
first of the second stage, and those of stride 1 of the second and third. What follows has small images and many
channels; the pointwise convolutions there, whose folded kernels are mostly zeros, would cost more than the depthwise
ones gain.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from torch import nn

from xlatrain.models.bn_groups import divisors
from xlatrain.models.folding.cost import LANES, folded_cycles, plain_cycles, plain_strided_cycles
from xlatrain.models.folding.geometry import Axis, Layout
from xlatrain.models.folding.known import channels_of, is_known_block, is_known_stem

_SHAPES = ((2, 2), (2, 4))  # folds: rows, columns
# `cost` finds folds of small images and of many channels cheaper than they are: the limits of what was measured.
_SMALLEST, _MOST = 28, 96  # pixels, channels that are expanded


@dataclass(frozen=True)
class BlockFolds:
    """The layouts of a block's input, of what its depthwise convolution takes and gives, and of its result."""

    before: Layout
    wide: Layout
    narrow: Layout
    after: Layout


@dataclass(frozen=True)
class Folds:
    """stem: of its result. blocks: by name, as in blocks.1.0."""

    stem: Layout | None = None
    blocks: dict[str, BlockFolds] = field(default_factory=dict)


def choose_folds(model: nn.Module, image_size: int, always: bool = False) -> Folds | None:
    """What of a model is folded; None of one that does not begin like an EfficientNet. A function of the model and of
    its images alone. always: what can be folded is, whether or not it is cheaper."""
    if not is_known_stem(model):
        return None
    blocks = list(_blocks(model.blocks))
    size = -(-image_size // 2)
    stem = _folded(size, model.conv_stem.out_channels, 2, 2)
    stem = replace(stem, group=_group(stem))
    found: dict[str, BlockFolds] = {}
    here: Layout | None = stem  # what the block before leaves, if it is folded and a block of stride 2 may take it
    for name, block in blocks:
        folds = _fold_block(block, size, here, always) if is_known_block(block) else None
        if folds:
            found[name] = folds
        if not found or not is_known_block(block):
            break
        # Of later blocks of stride 2 no estimate was seen.
        reaches = folds and folds.after.pixels > 1 and (here is not None or always)
        here = folds.after if reaches else None
        size = -(-size // block.conv_dw.stride[0])
    return Folds(stem, dict(_joined(found, [name for name, _ in blocks]))) if found else None


def _fold_block(block: nn.Module, size: int, here: Layout | None, always: bool) -> BlockFolds | None:
    """size: of the block's images. here: the layout that the block before leaves, if it is folded."""
    into, wide, out = channels_of(block)
    stride, kernel = block.conv_dw.stride[0], block.conv_dw.kernel_size[0]
    if into == wide:  # nothing is expanded: the first stage
        return BlockFolds(here, here, here, replace(here, channels=out, group=None)) if here and stride == 1 else None
    if stride == 2:
        found = _strided(here, wide, out, kernel) if here and not here.group else None
        plain = plain_strided_cycles(size, into, wide, kernel)
    else:
        allowed = always or (size >= _SMALLEST and into <= _MOST)
        found = _same_size(size, into, wide, out, kernel) if allowed else None
        plain = plain_cycles(size, into, wide, kernel)
    if found is None or always:
        return found
    return found if folded_cycles(found.before, found.wide, found.narrow, kernel, stride) < plain else None


def _same_size(size: int, into: int, wide: int, out: int, kernel: int) -> BlockFolds:
    """The cheapest of the forms that a block of stride 1 has."""
    options = []
    for rows, columns in _SHAPES:
        trunk = _folded(size, into, rows, columns)
        inner = replace(trunk, channels=wide)
        inner = replace(inner, group=_group(inner))
        options.append(BlockFolds(trunk, inner, _shifted(inner, kernel), replace(trunk, channels=out)))
    return min(options, key=lambda folds: folded_cycles(folds.before, folds.wide, folds.narrow, kernel))


def _strided(here: Layout, wide: int, out: int, kernel: int) -> BlockFolds | None:
    """The cheapest of the forms that a block of stride 2 has behind a folded one, which leaves folds of half the pixels
    each way."""
    if here.rows.fold % 2 or here.columns.fold % 2:
        return None
    rows, columns = (Axis(-(-axis.size // 2), axis.fold // 2) for axis in (here.rows, here.columns))
    options = []
    for group in divisors(wide):
        grouped = group if group < wide else None
        inner, outer = replace(here, channels=wide, group=grouped), Layout(rows, columns, wide, grouped)
        options.append(BlockFolds(here, inner, outer, Layout(rows, columns, out)))
    return min(options, key=lambda folds: folded_cycles(folds.before, folds.wide, folds.narrow, kernel, stride=2))


def _shifted(layout: Layout, kernel: int) -> Layout:
    """The layout in which a depthwise convolution leaves its result: with folds that begin half a kernel's width
    earlier it meets two folds of its input along an axis instead of three. Where that takes no more folds."""

    def shift(axis: Axis) -> Axis:
        moved = replace(axis, start=kernel // 2 - axis.fold)
        return moved if axis.fold >= kernel - 1 and moved.folds == axis.folds else axis

    return replace(layout, rows=shift(layout.rows), columns=shift(layout.columns))


def _joined(blocks: dict[str, BlockFolds], names: list[str]) -> Iterator[tuple[str, BlockFolds]]:
    """Where a block leaves other folds than the next one wants, its last convolution makes them so."""
    for name, following in zip(names, [*names[1:], ""], strict=True):
        if found := blocks.get(name):
            yield name, replace(found, after=blocks[following].before) if following in blocks else found


def _group(layout: Layout) -> int | None:
    """Channels of a group whose lanes are as near to 128 as may be; None for all of them."""
    if layout.channels * layout.pixels <= LANES:
        return None
    return max(n for n in divisors(layout.channels) if n * layout.pixels <= LANES)


def _folded(size: int, channels: int, rows: int, columns: int) -> Layout:
    return Layout(Axis(size, rows), Axis(size, columns), channels)


def _blocks(stages: nn.Sequential) -> Iterator[tuple[str, nn.Module]]:
    for i, stage in stages.named_children():
        for j, block in stage.named_children():
            yield f"blocks.{i}.{j}", block
