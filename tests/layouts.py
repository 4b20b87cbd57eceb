"""Global batches as processes and workers make them, put together again."""

from itertools import islice

import numpy as np

from xlatrain.data.phase import Place
from xlatrain.data.sources import TrainSource


def read_here(split, phases, processes, count, start, seed=7):
    """The first `count` global batches from a position: the rows of every worker of every process, each filled by a
    source of its own, in this process."""
    parts = []
    for process in range(processes):
        place = Place(process, processes)
        sources = [TrainSource(split, place, seed, phases, start) for _ in range(split.workers or 1)]
        made = [shape.new() for shape in islice(sources[0].shapes(), count)]
        for rows in made:
            rows["labels"][:] = -1  # of a row that nobody fills
        for worker, source in enumerate(sources):
            source.open()
            fills = source.fills(worker)
            for rows, (shape, fill) in zip(made, fills, strict=False):
                assert rows["images"].shape == (shape.batch, shape.size, shape.size, 3)
                fill(rows)
            fills.close()
        parts.append(made)
    return [put_together(rows) for rows in zip(*parts, strict=True)]


def read(split, phases, processes, count, start, seed=7):
    """The same as training reads them: by worker processes, where the split has some."""
    readers = [split.train_batches(Place(p, processes), seed, phases, start) for p in range(processes)]
    batches = [put_together([{k: t.numpy().copy() for k, t in next(r).items()} for r in readers]) for _ in range(count)]
    for reader in readers:
        reader.close()
    return batches


def put_together(parts):
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def assert_same(found, expected):
    assert len(found) == len(expected)
    for number, (a, b) in enumerate(zip(found, expected, strict=True)):
        assert a.keys() == b.keys()
        for name in a:
            assert np.array_equal(a[name], b[name]), f"{name} of batch {number}"
