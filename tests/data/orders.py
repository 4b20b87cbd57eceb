"""What the workers of a layout read, as sample numbers, computed from the order alone."""

from dataclasses import replace

import numpy as np

from xlatrain.data import order


def number_samples(sizes):
    return np.cumsum([0, *sizes])


def samples_of(line, sizes):
    """The line as sample numbers in index order."""
    starts = number_samples(sizes)
    parts = [np.arange(starts[s.shard] + s.first, starts[s.shard] + s.last) for s in line.spans]
    return np.concatenate(parts) if parts else np.empty(0, int)


def batches_of(line, sizes, leg, process, seed, epoch, number, window, first_step=0):
    """Every batch of a process from a step on, as sample numbers, read as the workers read: by windows of a run."""
    numbers, steps = samples_of(line, sizes), order.leg_steps(line.samples, leg)
    made = np.full((steps - first_step, leg.batch), -1)
    for worker in range(leg.workers):
        a, b = order.worker_range(steps, leg, process, worker)
        done = order.rows_before(replace(leg, steps=first_step), worker)
        windows = order.handed_out(a, b, seed, epoch, number, window, done)
        stream = np.concatenate([numbers[start:end][o] for start, end, o in windows] or [numbers[:0]])
        for n in range(first_step, steps):
            rows = made[n - first_step][order.worker_rows(leg.batch, leg.workers, worker, n)]
            rows[:], stream = stream[: len(rows)], stream[len(rows) :]
        assert len(stream) == 0
    return list(made)


def all_batches(line, sizes, leg, *key):
    return [batches_of(line, sizes, leg, p, *key) for p in range(leg.processes)]
