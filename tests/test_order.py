"""Nothing lost, nothing twice, equal counts, the same order again: for many random layouts."""

import random

import pytest

from xlatrain.data import order


def random_layout(draw):
    sizes = [draw.randrange(0, 300) for _ in range(draw.randrange(1, 12))]
    return sizes, draw.randrange(1, 9), draw.randrange(1, 17), draw.randrange(0, 50)


DRAW = random.Random(7)
LAYOUTS = [random_layout(DRAW) for _ in range(60)]


@pytest.mark.parametrize(("sizes", "processes", "batch", "epoch"), LAYOUTS)
def test_an_epoch_reads_each_position_once_except_the_stated_remainder(sizes, processes, batch, epoch):
    line = order.shard_line(sizes, seed=3, epoch=epoch)
    assert sorted(line) == list(range(len(sizes)))
    seen, counts = [], []
    for process in range(processes):
        first, last = order.train_range(sum(sizes), batch, process, processes)
        spans = order.cut(sizes, line, first, last)
        counts.append(sum(s.last - s.first for s in spans))
        seen += [(s.shard, i) for s in spans for i in range(s.first, s.last)]
    assert len(seen) == len(set(seen))
    assert len(set(counts)) == 1
    assert sum(sizes) - len(seen) < batch * processes  # less than one global batch is left out


@pytest.mark.parametrize(("sizes", "processes", "batch", "epoch"), LAYOUTS)
def test_evaluation_reads_everything_once_in_as_many_batches_everywhere(sizes, processes, batch, epoch):
    ranges = [order.eval_range(sum(sizes), batch, p, processes) for p in range(processes)]
    positions = [i for first, last, _ in ranges for i in range(first, last)]
    assert positions == list(range(sum(sizes)))
    assert len({batches for _, _, batches in ranges}) == 1
    assert all(last - first <= batches * batch for first, last, batches in ranges)


@pytest.mark.parametrize("workers", [1, 2, 3, 5, 8])
@pytest.mark.parametrize("batches", [1, 4, 7, 22])
def test_workers_taking_turns_for_ever_make_every_epoch_whole_and_in_order(batches, workers):
    queues = [
        [(epoch, n) for epoch in range(6) for n in order.worker_batches(batches, epoch, w, workers)]
        for w in range(workers)
    ]
    turns = [queues[i % workers].pop(0) for i in range(6 * batches)]
    assert turns == [(epoch, n) for epoch in range(6) for n in range(batches)]
    for epoch in range(6):
        ranges = [order.worker_range(batches, epoch, w, workers) for w in range(workers)]
        assert [n for a, b in ranges for n in range(a, b)] == list(range(batches))


def test_the_order_is_a_function_of_seed_and_epoch():
    sizes = [100] * 20
    assert order.shard_line(sizes, 1, 2) == order.shard_line(sizes, 1, 2)
    assert order.shard_line(sizes, 1, 2) != order.shard_line(sizes, 1, 3) != order.shard_line(sizes, 2, 3)
    assert list(order.window_order(50, 1, 2, 0)) == list(order.window_order(50, 1, 2, 0))
    assert order.sample_generator(1, 2, 3).random() == order.sample_generator(1, 2, 3).random()
    assert order.sample_generator(1, 2, 3).random() != order.sample_generator(1, 2, 4).random()
