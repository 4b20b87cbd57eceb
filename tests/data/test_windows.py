"""Windows of several streams: read ahead, after each other, and few of them at a time."""

from collections import Counter

import numpy as np
import pytest

from tests.waiting import wait_for
from xlatrain.data.windows import WindowReader

WINDOW, WINDOWS = 100, 4


def windows_of(stream):
    """Four windows of a stream, each in reverse order."""
    for first in range(stream * 1000, stream * 1000 + WINDOWS * WINDOW, WINDOW):
        yield first, first + WINDOW, np.arange(WINDOW)[::-1]


@pytest.mark.parametrize("streams", [1, 2, 8])
def test_each_stream_is_handed_out_window_by_window_and_little_is_held(streams):
    """Two windows of a single stream; of several, one and a half of each, and one that is being read."""
    loaded, found = [], [[] for _ in range(streams)]

    def read(first, last):
        loaded.append(first)
        return iter(range(first, last))

    with WindowReader([windows_of(s) for s in range(streams)], read, Counter()) as reader:
        for step in range(WINDOWS * WINDOW // 4):
            for stream in range(streams):
                found[stream] += reader.take(stream, 4)
            asked = sum(s.loading is not None for s in reader._streams)
            wait_for(lambda: all(s.loading is None or s.loading.done() for s in reader._streams))
            held = sum(len(s.held) for s in reader._streams) + asked * WINDOW
            assert held <= (2 if streams == 1 else 1.5) * streams * WINDOW + WINDOW, step
        assert all(reader.take(stream, 4) == [] for stream in range(streams))
    for stream, samples in enumerate(found):
        assert samples == [n for first, last, _ in windows_of(stream) for n in range(last - 1, first - 1, -1)]
    assert len(loaded) == len(set(loaded)) == WINDOWS * streams


def test_what_is_wrong_with_a_window_is_raised_where_it_is_used():
    def read(first, last):
        if first:
            raise OSError("the disk is gone")
        return iter(range(first, last))

    with WindowReader([windows_of(0)], read, Counter()) as reader:
        assert len(reader.take(0, WINDOW)) == WINDOW
        with pytest.raises(OSError, match="the disk is gone"):
            reader.take(0, 1)
