"""The first layers on tiles give what they give on whole images."""

import pytest
import timm
import torch

from xlatrain.models.tiles import Grid, TiledDropPath, choose_grid, stem_size, tile_first_layers


def outputs(model, x):
    """Of the first three stages: what comes after them never sees tiles."""
    layers = torch.nn.Sequential(model.conv_stem, model.bn1, *model.blocks[:3]).double().train()
    y = layers(x)
    return [y, *torch.autograd.grad(y.square().sum(), [x, *layers.parameters()]), *layers.buffers()]


@pytest.mark.parametrize(
    ("size", "grid", "joined"),
    [(64, Grid(1, 1), 1), (64, Grid(2, 1), 1), (64, Grid(4, 2), 1), (72, Grid(2, 2), 1), (68, Grid(2, 2), 0),
     (60, Grid(2, 2), 0), (60, Grid(5, 3), 1)],
)  # fmt: skip
def test_results_gradients_and_statistics_are_those_of_whole_images(size, grid, joined):
    """float64, 1e-9 of the largest value: sums in another order, through eight blocks. The second stage halves the
    tiles, so it is tiled only where their size is even."""
    torch.manual_seed(1)
    x = torch.randn(2, 3, size, size, dtype=torch.float64, requires_grad=True)
    models = []
    for tiled in (False, True):
        torch.manual_seed(0)
        model = timm.create_model("efficientnet_b1", drop_rate=0.0, drop_path_rate=0.0, num_classes=7)
        assert stem_size(model, size) == size // 2
        if tiled:
            names = set(model.state_dict())
            tile_first_layers(model, grid, size)
            assert set(model.state_dict()) == names
            assert [hasattr(stage, "join") for stage in model.blocks[:2]] == [joined == 0, joined == 1]
        models.append(model)
    for whole, tiled in zip(outputs(models[0], x), outputs(models[1], x), strict=True):
        torch.testing.assert_close(tiled, whole, rtol=0, atol=1e-9 * max(1.0, whole.abs().max().item()))


def test_stochastic_depth_drops_all_tiles_of_an_image_or_none():
    torch.manual_seed(0)
    drop = TiledDropPath(0.5, Grid(2, 2)).train()
    kept = drop(torch.ones(400, 2, 3, 3))[:, 0, 0, 0].view(4, 100)
    assert torch.equal(kept, kept[:1].expand(4, -1))
    assert set(kept.unique().tolist()) == {0.0, 2.0}
    assert torch.equal(drop.eval()(torch.ones(8, 1, 1, 1)), torch.ones(8, 1, 1, 1))


@pytest.mark.parametrize(
    ("images", "size", "grid"),
    [(32, 130, Grid(2, 2)), (64, 130, Grid(2, 1)), (128, 130, Grid(1, 1)), (32, 228, Grid(2, 2)), (16, 112, Grid(4, 2)),
     (32, 127, Grid(1, 1)), (200, 64, Grid(1, 1))],
)  # fmt: skip
def test_the_grid_fills_128_lanes_and_no_more(images, size, grid):
    assert choose_grid(images, size) == grid


def test_a_number_of_tiles_that_does_not_divide_is_refused_and_other_models_are_left_alone():
    with pytest.raises(ValueError, match="3 tiles do not divide an image of 130 x 130"):
        choose_grid(32, 130, tiles=3)
    assert stem_size(timm.create_model("resnet10t"), 64) is None
    assert stem_size(timm.create_model("efficientnet_b0"), 225) is None
    assert stem_size(timm.create_model("test_efficientnet"), 64) is None  # its first stage has no depthwise convolution
