"""What readers of rows hand out, as sample numbers, computed from the order alone."""

import numpy as np

from xlatrain.data import order


def samples_of(line, sizes):
    """The line as sample numbers in index order."""
    starts = np.cumsum([0, *sizes])
    parts = [np.arange(starts[s.shard] + s.first, starts[s.shard] + s.last) for s in line.spans]
    return np.concatenate(parts) if parts else np.empty(0, int)


def rows_of(line, sizes, leg, rows, seed, epoch, number, window):
    """What a reader of rows first <= r < last makes of the batches from leg.steps on: int [batches, rows]."""
    numbers = samples_of(line, sizes)
    columns = [np.empty((order.leg_steps(line.samples, leg) - leg.steps, 0), int)]
    for run in order.stream_runs(line.samples, leg, rows):
        windows = order.handed_out(run, seed, epoch, number, window)
        stream = np.concatenate([numbers[start:end][ranks] for start, end, ranks in windows] or [numbers[:0]])
        columns.append(stream.reshape(-1, run.high - run.low))
    return np.concatenate(columns, axis=1)


def batches_of(line, sizes, leg, *key):
    """Every global batch from leg.steps on: int [batches, batch]."""
    return rows_of(line, sizes, leg, (0, leg.batch), *key)
