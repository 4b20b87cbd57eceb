"""The first layers of an EfficientNet on tiles of the images, so that few channels do not leave a TPU's lanes idle.

A TPU lays out an activation with channels or images across 128 lanes. The stem and the first stages have 16 to 64
channels and a core holds perhaps 32 images, so most lanes carry padding, at the highest resolution of the network. Cut
into tiles, 32 images of 130 x 130 are 128 of 65 x 65: the same values, the same results, all lanes in use. Only a
convolution of more than 1 x 1 has to see its neighbours' borders; squeeze-and-excitation averages over an image's tiles
and stochastic depth drops them together.

Tiles lie along the batch, tile after tile: [rows · columns · N, C, h, w].
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from timm.layers import DropPath
from timm.models._efficientnet_blocks import DepthwiseSeparableConv, InvertedResidual, SqueezeExcite
from torch import nn

from xlatrain.models.bn_groups import divisors
from xlatrain.models.depthwise import diagonal_kernel

LANES = 128


@dataclass(frozen=True)
class Grid:
    """How an image is cut."""

    rows: int
    columns: int

    @property
    def tiles(self) -> int:
        return self.rows * self.columns


def choose_grid(images: int, size: int, tiles: int | None = None) -> Grid:
    """The grid that brings `images` of `size` pixels, as the stem leaves them, nearest to 128 without passing it, or
    the one of as many tiles as are asked for. Raises ValueError if that many do not divide the image."""
    found = [Grid(rows, columns) for rows in divisors(size) for columns in divisors(size) if columns <= rows]
    if tiles is not None:
        exact = [grid for grid in found if grid.tiles == tiles]
        if not exact:
            counts = ", ".join(str(n) for n in sorted({grid.tiles for grid in found}))
            raise ValueError(f"{tiles} tiles do not divide an image of {size} x {size}; take one of {counts}")
        return min(exact, key=lambda g: g.rows)
    fitting = [grid for grid in found if grid.tiles * images <= LANES and size // grid.rows >= 8]
    return max(fitting, key=lambda g: (g.tiles, -g.rows), default=Grid(1, 1))


def stem_size(model: nn.Module, image_size: int) -> int | None:
    """Height and width after the stem, of a model whose first layers can be tiled; None for another."""
    stem, stages = getattr(model, "conv_stem", None), getattr(model, "blocks", None)
    if type(stem) is not nn.Conv2d or stem.stride != (2, 2) or stem.kernel_size != (3, 3) or stem.padding != (1, 1):
        return None
    if image_size % 2 or not isinstance(stages, nn.Sequential) or not len(stages) or not _through(stages[0], (1, 1)):
        return None
    return image_size // 2


def tile_first_layers(model: nn.Module, grid: Grid, image_size: int, dense_channels: int = 0) -> None:
    """Change a model in place, so that its stem cuts the images and its second stage, or the first where the tiles of
    the second would be of different sizes, puts them together again. Names and parameters stay. dense_channels:
    depthwise convolutions of at most so many channels become dense ones."""
    model.conv_stem = TiledConv2d(model.conv_stem, grid, cut=True)
    tile = (image_size // 2 // grid.rows, image_size // 2 // grid.columns)
    for stage in model.blocks[:2]:
        after = _through(stage, tile)
        if after is None:
            break
        for block in stage:
            _tile_block(block, grid, dense_channels)
        tile = after
        last = stage
    last.add_module("join", Join(grid))


def _tile_block(block: nn.Module, grid: Grid, dense_channels: int) -> None:
    dense = block.conv_dw.out_channels <= dense_channels
    block.conv_dw = TiledConv2d(block.conv_dw, grid, cut=False, dense=dense)
    if isinstance(block.se, SqueezeExcite):
        block.se = TiledSqueezeExcite(block.se, grid)
    if isinstance(block.drop_path, DropPath):
        block.drop_path = TiledDropPath(block.drop_path.drop_prob, grid)


class TiledConv2d(nn.Module):
    """A Conv2d on tiles, its parameters kept. cut: the input is whole images [N, C, H, W], which it cuts; else tiles,
    whose borders it takes from their neighbours. dense: it is depthwise, but computed as DenseDepthwiseConv2d does."""

    def __init__(self, conv: nn.Module, grid: Grid, cut: bool, dense: bool = False):
        super().__init__()
        self.dense = dense
        self.weight, self.bias = conv.weight, conv.bias
        self.stride, self.groups, self.grid, self.cut = conv.stride, conv.groups, grid, cut
        self.before = conv.padding[0]
        self.after = conv.kernel_size[0] - conv.padding[0] - conv.stride[0]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self._cut(x) if self.cut else self._with_borders(x)
        if self.dense:
            return F.conv2d(x, diagonal_kernel(self.weight), self.bias, self.stride)
        return F.conv2d(x, self.weight, self.bias, self.stride, groups=self.groups)

    def _cut(self, x: torch.Tensor) -> torch.Tensor:
        height, width = x.shape[2] // self.grid.rows, x.shape[3] // self.grid.columns
        more = self.before + self.after
        x = F.pad(x, (self.before, self.after, self.before, self.after))
        return torch.cat(
            [
                x[:, :, i * height : (i + 1) * height + more, j * width : (j + 1) * width + more]
                for i in range(self.grid.rows)
                for j in range(self.grid.columns)
            ]
        )

    def _with_borders(self, x: torch.Tensor) -> torch.Tensor:
        """The tiles with what their neighbours have at the common edge; zeros at the edge of the image. Neighbours are
        a shift along the batch away, so the batch stays one axis and keeps its place in the lanes: seen as rows and
        columns it would cost B2 16 ms a step on v3."""
        images = x.shape[0] // self.grid.tiles
        x = self._extend(x, 2, self.grid.columns * images, None)
        column = torch.arange(self.grid.tiles, device=x.device).repeat_interleave(images) % self.grid.columns
        return self._extend(x, 3, images, column.view(-1, 1, 1, 1))

    def _extend(self, x: torch.Tensor, axis: int, shift: int, column: torch.Tensor | None) -> torch.Tensor:
        """Lengthen an axis by the ends of the tiles `shift` before and after along the batch. column: of each tile,
        where the next along the batch may belong to another row."""
        parts = [x]
        if self.before:
            end = x.narrow(axis, x.shape[axis] - self.before, self.before)
            end = torch.cat([torch.zeros_like(end[:shift]), end[:-shift]])
            parts.insert(0, end if column is None else torch.where(column > 0, end, torch.zeros_like(end)))
        if self.after:
            start = x.narrow(axis, 0, self.after)
            start = torch.cat([start[shift:], torch.zeros_like(start[:shift])])
            last = self.grid.columns - 1
            parts.append(start if column is None else torch.where(column < last, start, torch.zeros_like(start)))
        return torch.cat(parts, axis)


class TiledSqueezeExcite(nn.Module):
    """timm's SqueezeExcite on tiles, its layers kept: the mean is that of the image."""

    def __init__(self, se: SqueezeExcite, grid: Grid):
        super().__init__()
        self.conv_reduce, self.act1, self.conv_expand, self.gate = se.conv_reduce, se.act1, se.conv_expand, se.gate
        self.grid = grid

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        mean = x.mean((2, 3), keepdim=True)
        mean = mean.view(self.grid.tiles, -1, *mean.shape[1:]).mean(0)
        gate = self.gate(self.conv_expand(self.act1(self.conv_reduce(mean))))
        return x * gate.repeat(self.grid.tiles, 1, 1, 1)


class TiledDropPath(nn.Module):
    """Stochastic depth that drops all tiles of an image, or none."""

    def __init__(self, drop_prob: float, grid: Grid):
        super().__init__()
        self.drop_prob, self.grid = drop_prob, grid

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if not self.training or self.drop_prob == 0.0:
            return x
        keep = 1.0 - self.drop_prob
        mask = x.new_empty(x.shape[0] // self.grid.tiles, 1, 1, 1).bernoulli_(keep) / keep
        return x * mask.repeat(self.grid.tiles, 1, 1, 1)


class Join(nn.Module):
    """Tiles to images."""

    def __init__(self, grid: Grid):
        super().__init__()
        self.grid = grid

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        tiles = x.chunk(self.grid.tiles)
        columns = self.grid.columns
        return torch.cat([torch.cat(tiles[i : i + columns], 3) for i in range(0, len(tiles), columns)], 2)


def _through(stage: nn.Module, tile: tuple[int, int]) -> tuple[int, int] | None:
    """Height and width of a tile after a stage; None where tiles would not stay of one size, or the stage has a part
    that is not known to work on tiles."""
    height, width = tile
    for block in stage:
        if not _is_simple(block) or height % block.conv_dw.stride[0] or width % block.conv_dw.stride[1]:
            return None
        height, width = height // block.conv_dw.stride[0], width // block.conv_dw.stride[1]
    return height, width


def _is_simple(block: nn.Module) -> bool:
    pointwise = [getattr(block, name, None) for name in ("conv_pw", "conv_pwl")]
    return (
        type(block) in (DepthwiseSeparableConv, InvertedResidual)
        and getattr(block, "conv_s2d", None) is None
        and type(block.conv_dw) is nn.Conv2d
        and block.conv_dw.stride in ((1, 1), (2, 2))
        and block.conv_dw.dilation == (1, 1)
        and block.conv_dw.kernel_size[0] == 2 * block.conv_dw.padding[0] + 1
        and all(conv is None or conv.kernel_size == (1, 1) for conv in pointwise)
        and isinstance(block.aa, nn.Identity)
        and isinstance(block.se, (SqueezeExcite, nn.Identity))
    )
