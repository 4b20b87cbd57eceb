"""Nothing lost, nothing twice, equal counts, the same order again, resumed as uninterrupted: for many layouts."""

import random

import numpy as np
import pytest

from tests.data.orders import all_batches, batches_of, samples_of
from xlatrain.data import order
from xlatrain.data.order import Leg, Position

WINDOW = 512


def random_layout(number):
    """Shard sizes, a layout, an epoch and a window: the same for a number, whichever tests are chosen."""
    draw = random.Random(number)
    sizes = [draw.choice((0, 1, draw.randrange(300), draw.randrange(3_001))) for _ in range(draw.randrange(1, 12))]
    leg = Leg(draw.choice((1, 2, 3, 8, 17, 64)), max(1, draw.randrange(9)), draw.choice((1, 3, 16, 40)))
    return sizes, leg, draw.randrange(50), draw.choice((1, 7, WINDOW, 100_000))


LAYOUTS = [random_layout(number) for number in range(80)]


def flat(batches):
    return np.concatenate([b for process in batches for b in process] or [np.empty(0, int)])


@pytest.mark.parametrize(("sizes", "leg", "epoch", "window"), LAYOUTS)
def test_an_epoch_reads_each_sample_once_except_the_stated_remainder(sizes, leg, epoch, window):
    line = order.epoch_line(sizes, 3, epoch)
    assert sorted(samples_of(line, sizes)) == list(range(sum(sizes)))
    batches = all_batches(line, sizes, leg, 3, epoch, 0, window)
    assert {len(process) for process in batches} == {order.leg_steps(sum(sizes), leg)}
    assert all(len(b) == leg.batch for process in batches for b in process)
    seen = flat(batches)
    assert len(np.unique(seen)) == len(seen)
    assert sum(sizes) - len(seen) < leg.batch * leg.processes  # less than one global batch is left out


@pytest.mark.parametrize(("sizes", "leg", "epoch", "window"), LAYOUTS[:40])
def test_starting_at_a_step_equals_having_come_to_it(sizes, leg, epoch, window):
    line = order.epoch_line(sizes, 3, epoch)
    steps = order.leg_steps(line.samples, leg)
    process = random.Random(epoch).randrange(leg.processes)
    whole = batches_of(line, sizes, leg, process, 3, epoch, 0, window)
    for step in {0, steps // 3, max(0, steps - 1), steps}:
        rest = batches_of(line, sizes, leg, process, 3, epoch, 0, window, step)
        assert len(rest) == steps - step
        assert all(np.array_equal(a, b) for a, b in zip(whole[step:], rest, strict=True))


@pytest.mark.parametrize(("sizes", "leg", "epoch", "window"), LAYOUTS[:40])
def test_what_remains_is_cut_anew_again_and_again_without_loss(sizes, leg, epoch, window):
    draw, seen, position = random.Random(epoch), [], Position(epoch).under(leg)
    for number in range(4):
        current = position.legs[-1]
        line = order.line_at(sizes, 3, position, window)
        steps = order.leg_steps(line.samples, current)
        stop = steps if number == 3 else draw.randrange(steps + 1)
        batches = all_batches(line, sizes, current, 3, epoch, number, window)
        seen.append(flat([process[:stop] for process in batches]))
        position = position.advance(stop)
        done = np.concatenate(seen)
        rest = samples_of(order.remaining_line(line, position.legs[-1], 3, epoch, number, window), sizes)
        assert sorted([*done, *rest]) == list(range(sum(sizes)))
        last, batch = position.legs[-1], draw.choice((1, 5, 16))
        workers = last.workers % 8 + 1  # another layout each time: the same one would go on in the same leg
        position = Position(epoch, (*position.legs, Leg(draw.choice((1, 2, 5, 64)), workers, batch)))
    assert sum(sizes) - len(done) < current.batch * current.processes


def test_a_position_goes_on_in_the_same_leg_only_under_the_same_layout():
    layout, other = Leg(4, 2, 8), Leg(2, 2, 8)
    start = Position(3).under(layout)
    assert start.legs == (layout,)
    assert start.under(other).legs == (other,)  # nothing was read under the first
    later = start.advance(5)
    assert later.under(layout) == later
    assert later.under(other).legs == (Leg(4, 2, 8, 5), other)


@pytest.mark.parametrize(("sizes", "leg", "epoch", "window"), LAYOUTS)
def test_evaluation_reads_everything_once_in_as_many_batches_everywhere(sizes, leg, epoch, window):
    ranges = [order.eval_range(sum(sizes), leg.batch, p, leg.processes) for p in range(leg.processes)]
    assert len({batches for _, _, batches in ranges}) == 1
    runs = [
        (first + a, first + b)
        for first, last, batches in ranges
        for a, b in (order.worker_run(last - first, leg.workers, w) for w in range(leg.workers))
    ]
    assert [i for a, b in runs for i in range(a, b)] == list(range(sum(sizes)))
    assert all(last - first <= batches * leg.batch for first, last, batches in ranges)


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
