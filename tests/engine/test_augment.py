"""Flips, erasing, mixup and cutmix on the device do what their papers say."""

import pytest
import torch
from timm.data.mixup import mixup_target
from timm.loss import BinaryCrossEntropy

from xlatrain.engine.augment import (
    QUANTILES,
    beta_quantiles,
    cutmix,
    cutout,
    draw_beta,
    mixed_binary_cross_entropy,
    mixed_cross_entropy,
    mixup,
    random_erase,
    random_flip,
)


def test_the_flip_mirrors_about_half_the_images():
    torch.manual_seed(0)
    images = torch.arange(6.0).reshape(1, 1, 2, 3).repeat(400, 1, 1, 1)
    flipped = (random_flip(images)[:, 0, 0, 0] == 2).float().mean()
    assert 0.4 < flipped < 0.6


@pytest.mark.parametrize("alpha", [0.2, 1.0])
def test_numbers_are_drawn_from_beta(alpha):
    torch.manual_seed(0)
    quantiles = beta_quantiles(alpha)
    assert len(quantiles) == QUANTILES
    drawn = draw_beta(200_000, quantiles).double()
    assert drawn.mean().item() == pytest.approx(0.5, abs=3e-3)
    assert drawn.var().item() == pytest.approx(1 / (4 * (2 * alpha + 1)), rel=1e-2)


def test_mixup_blends_images_and_labels_alike():
    torch.manual_seed(2)
    images, share = torch.randn(6, 3, 4, 4), torch.tensor([0.1, 0.5, 0.9, 0.3, 0.7, 1.0])
    mixed, kept = mixup(images, images.flip(0), share)
    assert kept.tolist() == pytest.approx([0.9, 0.5, 0.9, 0.7, 0.7, 1.0])
    torch.testing.assert_close(mixed[0], 0.9 * images[0] + 0.1 * images[5])
    logits, labels = torch.randn(6, 5), torch.arange(6) % 5
    one_hot = torch.nn.functional.one_hot(labels, 5).float()
    target = kept[:, None] * one_hot + (1 - kept[:, None]) * one_hot.flip(0)
    expected = torch.nn.functional.cross_entropy(logits, target, label_smoothing=0.1)
    torch.testing.assert_close(mixed_cross_entropy(logits, labels, kept, 0.1), expected)


@pytest.mark.parametrize("threshold", [None, 0.2])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_binary_cross_entropy_is_that_of_timm(smoothing, threshold):
    draw = torch.Generator().manual_seed(3)
    logits, labels = 3 * torch.randn(8, 7, generator=draw), torch.randint(7, (8,), generator=draw)
    theirs = BinaryCrossEntropy(smoothing=smoothing, target_threshold=threshold)
    ours = mixed_binary_cross_entropy(logits, labels, None, smoothing, threshold)
    torch.testing.assert_close(ours, theirs(logits, labels))
    share = 0.3  # of a batch, as timm has it
    mixed = mixup_target(labels, 7, share, smoothing)
    ours = mixed_binary_cross_entropy(logits, labels, torch.full((8,), share), smoothing, threshold)
    torch.testing.assert_close(ours, theirs(logits, mixed))


def test_a_square_is_cut_out_anywhere_within_the_image():
    torch.manual_seed(0)
    images = torch.full((600, 3, 9, 12), 7.0)
    cut = cutout(images, 4)
    gone = (cut == 0).all(1)
    assert torch.equal(gone, (cut != images).any(1))
    rows, columns = gone.any(2), gone.any(1)
    assert set(rows.sum(1).tolist()) == set(columns.sum(1).tolist()) == {4}
    assert set(rows.float().argmax(1).tolist()) == set(range(6))  # every place, both borders among them
    assert set(columns.float().argmax(1).tolist()) == set(range(9))
    assert cutout(images, 50).abs().max() == 0  # larger than an image of a smaller phase


def test_cutmix_counts_the_pixels_it_pastes():
    torch.manual_seed(1)
    images = torch.zeros(300, 1, 16, 16)
    partner = torch.ones_like(images)
    mixed, kept = cutmix(images, partner, torch.rand(300))
    torch.testing.assert_close(1.0 - mixed.mean((1, 2, 3)), kept)
    assert 0.3 < kept.mean().item() < 0.8


def test_random_erasing_fills_boxes_of_the_papers_sizes_and_nothing_else():
    torch.manual_seed(0)
    images = torch.full((4000, 3, 24, 32), 9.0)
    erased = random_erase(images, 0.25)
    touched = (erased != images).all(1)
    hit = touched.flatten(1).any(1)
    assert hit.float().mean() == pytest.approx(0.25, abs=0.03)
    share = touched[hit].float().mean((1, 2))
    assert 0.01 < share.min() < 0.04
    assert 0.25 < share.max() < 0.36
    rows, columns = touched.any(2).sum(1), touched.any(1).sum(1)
    assert torch.equal(rows * columns, touched.flatten(1).sum(1))  # a box, not a cloud
    assert erased[touched[:, None].expand_as(erased)].std() == pytest.approx(1.0, abs=0.02)
    assert torch.equal(random_erase(images, 0.0), images)
