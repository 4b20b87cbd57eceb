"""Nothing lost, nothing twice, the same order again, whoever reads, resumed as uninterrupted: for many layouts."""

import itertools
import random

import numpy as np
import pytest

from tests.data.orders import batches_of, rows_of, samples_of
from xlatrain.data import order
from xlatrain.data.order import Leg, Position
from xlatrain.data.phase import Place

WINDOW = 512


def random_case(number):
    """Shard sizes, a cut of the line, an epoch, a window, processes and workers: the same for a number, whichever tests
    are chosen."""
    draw = random.Random(number)
    sizes = [draw.choice((0, 1, draw.randrange(300), draw.randrange(3_001))) for _ in range(draw.randrange(1, 12))]
    leg = Leg(draw.choice((1, 2, 8, draw.randrange(1, 100))), draw.choice((1, 3, 16, 40, 200)))
    window = draw.choice((1, 7, WINDOW, 100_000))
    return sizes, leg, draw.randrange(50), window, draw.randrange(1, 65), draw.randrange(9)


CASES = [pytest.param(*random_case(n), marks=pytest.mark.slow if n >= 20 or n in (1, 6) else []) for n in range(80)]
of_cases = pytest.mark.parametrize(("sizes", "leg", "epoch", "window", "processes", "workers"), CASES)
of_some = pytest.mark.parametrize(("sizes", "leg", "epoch", "window", "processes", "workers"), CASES[:40])


def ranges_of_rows(batch, processes, workers):
    """The rows of each worker of each process."""
    for process in range(processes):
        first, last = Place(process, processes).rows(batch)
        for worker in range(max(1, workers)):
            a, b = order.share(last - first, max(1, workers), worker)
            yield first + a, first + b


def as_defined(line, sizes, leg, epoch, window):
    """Global batches by the definition: streams are contiguous runs of the line, each shuffled in windows, and fill the
    same rows of every batch."""
    numbers, steps, columns, at = samples_of(line, sizes), line.samples // leg.batch, [], 0
    bounds = [stream * leg.batch // leg.streams for stream in range(leg.streams + 1)]
    for first, last in itertools.pairwise(bounds):
        count = (last - first) * steps
        windows = [(at + i, min(at + i + window, at + count)) for i in range(0, count, window)]
        shuffled = [numbers[a:b][order.window_order(b - a, 3, epoch, 0, a)] for a, b in windows]
        columns.append(np.concatenate([*shuffled, numbers[:0]]).reshape(steps, last - first))
        at += count
    return np.concatenate(columns, axis=1)


@of_cases
def test_an_epoch_holds_each_sample_once_except_the_stated_remainder(sizes, leg, epoch, window, processes, workers):
    line = order.epoch_line(sizes, 3, epoch)
    assert sorted(samples_of(line, sizes)) == list(range(sum(sizes)))
    batches = batches_of(line, sizes, leg, 3, epoch, 0, window)
    assert batches.shape == (sum(sizes) // leg.batch, leg.batch)
    assert len(np.unique(batches)) == batches.size
    assert np.array_equal(batches, as_defined(line, sizes, leg, epoch, window))


@of_cases
def test_rows_that_readers_make_are_those_of_the_batch(sizes, leg, epoch, window, processes, workers):
    key = order.epoch_line(sizes, 3, epoch), sizes, leg
    ranges = list(ranges_of_rows(leg.batch, processes, workers))
    assert [row for a, b in ranges for row in range(a, b)] == list(range(leg.batch))
    parts = [rows_of(*key, rows, 3, epoch, 0, window) for rows in ranges]
    assert np.array_equal(np.concatenate(parts, axis=1), batches_of(*key, 3, epoch, 0, window))


@of_some
def test_starting_at_a_step_equals_having_come_to_it(sizes, leg, epoch, window, processes, workers):
    line = order.epoch_line(sizes, 3, epoch)
    steps = order.leg_steps(line.samples, leg)
    rows = random.Random(epoch).choice(list(ranges_of_rows(leg.batch, processes, workers)))
    whole = rows_of(line, sizes, leg, rows, 3, epoch, 0, window)
    for step in {0, steps // 3, max(0, steps - 1), steps}:
        later = Leg(leg.streams, leg.batch, step)
        assert np.array_equal(rows_of(line, sizes, later, rows, 3, epoch, 0, window), whole[step:])


@of_some
def test_what_remains_is_cut_anew_again_and_again_without_loss(sizes, leg, epoch, window, processes, workers):
    draw, seen, position = random.Random(epoch), [], Position(epoch).under(leg)
    for number in range(4):
        current = position.legs[-1]
        line = order.line_at(sizes, 3, position, window)
        steps = order.leg_steps(line.samples, current)
        stop = steps if number == 3 else draw.randrange(steps + 1)
        seen.append(batches_of(line, sizes, current, 3, epoch, number, window)[:stop].ravel())
        position = position.advance(stop)
        done = np.concatenate(seen)
        rest = samples_of(order.remaining_line(line, position.legs[-1], 3, epoch, number, window), sizes)
        assert sorted([*done, *rest]) == list(range(sum(sizes)))
        # Another cut each time: the same one would go on in the same leg.
        position = Position(epoch, (*position.legs, Leg(current.streams % 8 + 1, draw.choice((1, 5, 16, 64)))))
    assert sum(sizes) - len(done) < current.batch


def test_a_position_goes_on_in_the_same_leg_only_under_the_same_cut():
    cut, other = Leg(8, 32), Leg(8, 16)
    start = Position(3).under(cut)
    assert start.legs == (cut,)
    assert start.under(other).legs == (other,)  # nothing was read under the first
    later = start.advance(5)
    assert later.under(cut) == later
    assert later.under(other).legs == (Leg(8, 32, 5), other)


def test_readers_meet_whole_streams_where_there_are_as_many():
    """Then nothing is read twice; 1 x 8, 2 x 4 and 4 x 2 replicas, with up to two workers each, have eight."""
    assert [order.streams_for(readers) for readers in (1, 2, 4, 8, 9, 64)] == [8, 8, 8, 8, 9, 64]
    for processes, workers, batch in [(2, 2, 128), (3, 5, 90), (16, 7, 1024), (4, 23, 64)]:
        leg = Leg(order.streams_for(processes * workers), batch)
        for rows in ranges_of_rows(batch, processes, workers):
            assert all((run.low, run.high) == (0, run.rows) for run in order.stream_runs(10_000, leg, rows))


@of_cases
def test_evaluation_reads_everything_once_in_as_many_batches_everywhere(sizes, leg, epoch, window, processes, workers):
    batch, workers = leg.batch, max(1, workers)
    ranges = [order.eval_range(sum(sizes), batch, p, processes) for p in range(processes)]
    assert len({batches for _, _, batches in ranges}) == 1
    runs = [
        (first + a, first + b)
        for first, last, batches in ranges
        for a, b in (order.worker_run(last - first, workers, w) for w in range(workers))
    ]
    assert [i for a, b in runs for i in range(a, b)] == list(range(sum(sizes)))
    assert all(last - first <= batches * batch for first, last, batches in ranges)


def test_the_order_is_a_function_of_seed_and_epoch():
    def line(seed, epoch):
        return order.epoch_line([100] * 20, seed, epoch).spans

    assert line(1, 2) == line(1, 2)
    assert line(1, 2) != line(1, 3) != line(2, 3)
    assert list(order.window_order(50, 1, 2, 0, 0)) == list(order.window_order(50, 1, 2, 0, 0))
    assert list(order.window_order(50, 1, 2, 0, 0)) != list(order.window_order(50, 1, 2, 1, 0))
    assert order.sample_generator(1, 2, 3).random() == order.sample_generator(1, 2, 3).random()
    assert order.sample_generator(1, 2, 3).random() != order.sample_generator(1, 2, 4).random()


def test_shuffling_spreads_neighbours():
    """A shuffle in name only would leave neighbours together."""
    o = order.window_order(10_000, 0, 0, 0, 0)
    assert abs(np.corrcoef(o[:-1], o[1:])[0, 1]) < 0.05
