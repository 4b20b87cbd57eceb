"""Repeated augmentation: each image several times in a batch, far apart, and the same batches whoever reads them."""

from collections import Counter

import numpy as np
import pytest

from tests.shards import split, write
from xlatrain.config.data import AugmentConfig, OwnDataConfig
from xlatrain.data import order
from xlatrain.data.dataset import position_after
from xlatrain.data.numbered import NumberedSplit
from xlatrain.data.order import Position
from xlatrain.data.phase import Phase, Place
from xlatrain.data.synthetic import SyntheticSplit

IMAGES = 17  # as many as differ


def batches(split, batch, count, start=None, processes=1):
    """Global batches, the value of each image: int [count, batch]."""
    phases = (Phase(0, batch, 8),)
    readers = [split.train_batches(Place(p, processes), 3, phases, start or Position()) for p in range(processes)]
    found = [[int(image[0, 0, 0]) for reader in readers for image in next(reader)["images"]] for _ in range(count)]
    for reader in readers:
        reader.close()
    return np.array(found)


@pytest.mark.parametrize(("batch", "distinct"), [(12, 4), (8, 3), (2, 1)])
def test_each_image_of_a_batch_lies_in_it_so_many_times_and_a_pass_reads_all(tmp_path, batch, distinct):
    write(tmp_path, count=IMAGES)
    steps = IMAGES // distinct
    found = batches(split(tmp_path, repeats=3), batch, steps)
    for row in found:
        assert len(set(row)) == distinct
        assert np.array_equal(row, np.resize(row[:distinct], batch))  # views of an image as far apart as can be
    seen = Counter(found[:, :distinct].ravel())
    assert max(seen.values()) == 1
    assert len(seen) == steps * distinct


@pytest.mark.parametrize(("processes", "workers"), [(2, 0), (5, 0), pytest.param(1, 2, marks=pytest.mark.slow)])
def test_the_batches_are_the_same_whoever_reads_them(tmp_path, processes, workers):
    write(tmp_path, count=IMAGES)
    one = batches(split(tmp_path, repeats=3), 20, 6)
    assert np.array_equal(batches(split(tmp_path, repeats=3, workers=workers), 20, 6, processes=processes), one)


def test_a_run_goes_on_in_the_middle_of_a_pass_as_if_it_had_not_stopped(tmp_path):
    write(tmp_path, count=IMAGES)
    repeated, phases = split(tmp_path, repeats=3, shuffle_window=4), (Phase(0, 12, 8),)
    whole = batches(repeated, 12, 12)
    for steps in (1, 4, 7):
        start = position_after(repeated, 3, phases, Position(), steps)
        assert (start.step, start.epoch) == (steps, steps // 4)
        assert np.array_equal(batches(repeated, 12, 12 - steps, start), whole[steps:])


def test_views_draw_for_themselves():
    """On the host, as a crop does, and in a data set of one's own."""
    draws = [order.sample_generator(1, 2, 3, view).random() for view in range(3)]
    assert len(set(draws)) == 3
    assert draws[0] == order.sample_generator(1, 2, 3).random()
    config = OwnDataConfig(image_size=4, eval_padding=0, repeats=2, _target_="Drawing")
    reader = NumberedSplit(Drawing(), config, AugmentConfig(), 3).train_batches(
        Place(0, 1), 3, (Phase(0, 8, 4),), Position()
    )
    images = next(reader)["images"].numpy()[:, 0, 0]
    assert np.array_equal(images[:4, 0], images[4:, 0])  # the same samples
    assert (images[:4, 1] != images[4:, 1]).mean() > 0.5


class Drawing:
    """Its number in one channel, what it draws in another."""

    def __len__(self):
        return 40

    def __getitem__(self, i):
        return np.full((4, 4, 3), (i, np.random.randint(256), 0), np.uint8), i % 3


def test_random_images_repeat_too():
    reader = SyntheticSplit(100, 8, 10, repeats=2).train_batches(Place(0, 1), 0, (Phase(0, 6, 8),), Position())
    labels = next(reader)["labels"].tolist()
    assert labels[:3] == labels[3:]
