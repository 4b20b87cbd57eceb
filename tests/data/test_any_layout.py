"""Global batches, row by row, do not depend on who reads them: any number of processes and of workers."""

import io

import numpy as np
import pytest
from PIL import Image

from tests.layouts import assert_same, read, read_here
from tests.shards import split as split_of
from xlatrain.data.order import Leg, Position
from xlatrain.data.phase import Phase
from xlatrain.data.shard_format import write_shards
from xlatrain.data.synthetic import SyntheticSplit

SAMPLES, STREAMS = 170, 8
PHASES = (Phase(0, 24, 8), Phase(9, 20, 12))  # size and batch change after two steps of the second epoch
LEGS = ([Leg(STREAMS, 24, 7)], [Leg(STREAMS, 24, 2), Leg(STREAMS, 20, 6)], [Leg(STREAMS, 20, 8)])  # of three epochs
STEPS = 7 + 2 + 6 + 8
LAYOUTS = [(p, w) for p in (1, 2, 3, 4, 8) for w in (0, 1, 2, 3, 8)]
SOME = [(2, 3), (8, 0), (3, 2)]  # of the quick tests


def numbered_picture(number):
    """8 x 8 pixels that tell the number of a sample in two channels, and where they lie in the third."""
    pixels = np.empty((8, 8, 3), np.uint8)
    pixels[..., 0], pixels[..., 1], pixels[..., 2] = number // 256, number % 256, np.arange(64).reshape(8, 8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("shards")
    samples = ((f"{i:04d}", "png", numbered_picture(i), i % 10) for i in range(SAMPLES))
    write_shards(root, samples, [str(c) for c in range(10)], samples_per_shard=23)
    return root


def split(root, workers=0, window=8, streams=STREAMS):
    return split_of(root, shift=2, workers=workers, shuffle_window=window, streams=streams)


@pytest.fixture(scope="module")
def expected(root):
    """What one process reads by itself, and four steps into a fourth epoch."""
    return read_here(split(root), PHASES, 1, STEPS + 4, Position())


def numbers(batches):
    images = [batch["images"][:, 0, 0].astype(int) for batch in batches]
    return [(pixels[:, 0] * 256 + pixels[:, 1]).tolist() for pixels in images]


def position_at(step):
    """Where an undisturbed reader is after so many steps."""
    position = Position()
    for epoch, legs in enumerate(LEGS):
        position = Position(epoch, step=position.step)
        for leg in legs:
            position = position.under(Leg(leg.streams, leg.batch)).advance(min(leg.steps, step - position.step))
            if position.step == step:
                return position
    raise ValueError(step)


def test_epochs_hold_each_sample_once_but_for_less_than_a_batch(expected):
    seen, at = numbers(expected), 0
    for legs in LEGS:
        count = sum(leg.steps for leg in legs)
        epoch = [n for batch in seen[at : at + count] for n in batch]
        assert len(set(epoch)) == len(epoch) > SAMPLES - legs[-1].batch
        at += count
    assert [batch["labels"].tolist() for batch in expected] == [[n % 10 for n in batch] for batch in seen]
    corners = np.concatenate([batch["images"][:, 0, 0, 2] for batch in expected[:9]])
    assert len(set(corners.tolist())) == 9  # by 0 to 2 each way: augmentation is compared too


@pytest.mark.parametrize(
    ("processes", "workers"), [pytest.param(*at, marks=[] if at in SOME else pytest.mark.slow) for at in LAYOUTS]
)
def test_batches_are_the_same_row_by_row(root, expected, processes, workers):
    assert_same(read_here(split(root, workers), PHASES, processes, STEPS + 4, Position()), expected)


@pytest.mark.slow
@pytest.mark.parametrize(("processes", "workers"), [(1, 2), (2, 1), (3, 2), (1, 8)])
def test_worker_processes_make_them_too(root, expected, processes, workers):
    assert_same(read(split(root, workers), PHASES, processes, STEPS + 4, Position()), expected)


@pytest.mark.slow
@pytest.mark.parametrize("step", range(STEPS + 1))
def test_another_layout_goes_on_from_any_position_as_if_nothing_had_happened(root, expected, step):
    processes, workers = LAYOUTS[step % len(LAYOUTS)]
    found = read_here(split(root, workers), PHASES, processes, 4, position_at(step))
    assert_same(found, expected[step : step + 4])


@pytest.mark.slow
@pytest.mark.parametrize(("streams", "window"), [(1, 1000), (3, 5), (40, 1)])
def test_so_it_is_for_few_streams_and_for_more_than_rows(root, streams, window):
    whole = read_here(split(root, 0, window, streams), PHASES, 1, 16, Position())
    for processes, workers in [(3, 0), (2, 3), (8, 2)]:
        assert_same(read_here(split(root, workers, window, streams), PHASES, processes, 16, Position()), whole)


def test_random_images_are_the_same_too():
    data, phases = SyntheticSplit(50, 8, 10), (Phase(0, 12, 8), Phase(3, 10, 12))
    whole = read(data, phases, 1, 6, Position())
    assert whole[0]["labels"].tolist() != whole[1]["labels"].tolist()
    for processes in (2, 3, 8):
        assert_same(read(data, phases, processes, 6, Position()), whole)
