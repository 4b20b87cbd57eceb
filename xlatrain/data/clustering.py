"""How evenly classes are spread along shards, and what that leaves of it in a batch.

The measure is chi² per degree of freedom of the labels of neighbouring samples against those of the whole split: 1
where shards were shuffled, up to the number of neighbours where they are all of one class. In the words of surveys it
is the design effect of cluster samples (Kish, Survey Sampling, 1965; for several classes Rao and Scott, 1981): a batch
with chi² of c per degree of freedom says of the classes as much as one c times smaller that was drawn at random.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from xlatrain.config.schema import ShardsConfig
from xlatrain.data.order import STREAMS

SHORTEST = 64  # samples of the shortest stretch measured
GOOD, BAD = 1.5, 2.0  # of a batch: what a window is recommended for, and what is worth a warning

Clustering = Mapping[int, float]  # samples of a stretch -> mean chi² per degree of freedom of its labels


@dataclass(frozen=True)
class Reading:
    """How a split is read. batch: images of all processes; streams: those with rows in a batch, each with a window
    open; window: data.shuffle_window; hosts: among which the streams are; bytes: of all encoded images, None = not
    known."""

    samples: int
    batch: int
    streams: int
    window: int
    hosts: int = 1
    bytes: int | None = None

    def held(self, window: int) -> str:
        """What a host would hold in memory at most: of each stream one window is read while another is used."""
        held = 2 * window * self.streams / self.hosts * self.bytes / self.samples
        return f"{held / 1e9:,.1f} GB" if held >= 1e9 else f"{held / 1e6:,.1f} MB"


def measure_clustering(labels: Sequence[np.ndarray]) -> dict[int, float]:
    """From the labels of each shard, int64 [samples], none below 0: for stretches of 64, 128 ... samples of a shard,
    and for whole shards (by their mean size). Empty where there is but one class, or no sample."""
    shards = [shard for shard in labels if shard.size]
    counts = np.bincount(np.concatenate(shards)) if shards else np.zeros(0, np.int64)
    if np.count_nonzero(counts) < 2:
        return {}
    mean, found, length = round(counts.sum() / len(shards)), {}, SHORTEST
    while length < mean:
        cut = [s[i : i + length] for s in shards for i in range(0, s.size - length + 1, length)]
        found[length] = _mean_chi2(cut, counts)
        length *= 2
    return found | {mean: _mean_chi2(shards, counts)}


def batch_chi2(clustering: Clustering, reading: Reading) -> float:
    """Chi² per degree of freedom of the labels of a batch, as expected; 1 = shuffled.

    Whole shards, or stretches of them where a window is shorter, are drawn without replacement: with clustering c of
    stretches of m, a window of w in each of s streams makes it 1 + (c - 1) batch / (s w) (N - s w) / (N - m) of N
    samples. The mean over a run's windows, the last of which is shorter, replaces (N - s w) / (s w). For windows no
    longer than shards it is the order of magnitude: those that lie across two are better, streams that read shards
    sorted alike in step are worse."""
    r, longest = reading, max(clustering, default=1)
    window = max(r.window, math.ceil(r.batch / r.streams))  # a batch reads on through windows shorter than its share
    stretch = min(window, longest)
    if not clustering or stretch >= r.samples:
        return 1.0
    windows = math.ceil(r.samples / r.streams / window)
    return 1 + max(0.0, _at(clustering, stretch) - 1) * r.batch * (windows - 1) / (r.samples - stretch)


def good_window(clustering: Clustering, reading: Reading) -> int:
    """The shortest window that divides a stream's run evenly and makes a batch good; at most all of the run."""
    run = math.ceil(reading.samples / reading.streams)

    def chi2_of(windows: int) -> float:
        return batch_chi2(clustering, replace(reading, window=math.ceil(run / windows)))

    return math.ceil(run / max(1, bisect.bisect_right(range(1, run + 1), GOOD, key=chi2_of)))


def describe_clustering(clustering: Clustering, samples: int) -> str | None:
    """What shards are like for who has not said yet how they are read: with the options' defaults, on one machine. None
    where that mixes them."""
    reading = Reading(samples, 256, STREAMS, ShardsConfig.shuffle_window)
    if (chi2 := batch_chi2(clustering, reading)) <= BAD:
        return None
    return (
        f"the classes lie together: {_evenness(reading.batch, chi2)} when {reading.streams} streams are read in "
        f"windows of {reading.window:,}; data.shuffle_window={good_window(clustering, reading)} mixes them, or more "
        "data.streams, or shards written anew in random order. xlatrain train warns by its own figures"
    )


def advise(clustering: Clustering, reading: Reading) -> str | None:
    """What is wrong with the batches of a run, and what cures it; None where nothing is."""
    if (chi2 := batch_chi2(clustering, reading)) <= BAD:
        return None
    window = good_window(clustering, reading)
    better = batch_chi2(clustering, replace(reading, window=window))
    memory = ""
    if reading.bytes is not None:
        memory = f"; a host then holds {reading.held(window)} of encoded images, now {reading.held(reading.window)}"
    return (
        f"the classes lie together in the shards of training: {_evenness(reading.batch, chi2)}. "
        f"data.shuffle_window={window} makes that {better:.1f}{memory}. Or write the shards anew in random order, as "
        "`xlatrain shards from-folder` does"
    )


def _evenness(batch: int, chi2: float) -> str:
    return (
        f"a batch of {batch:,} is no more even in its classes than {max(1, round(batch / chi2)):,} shuffled images "
        f"(chi² per degree of freedom {chi2:.1f})"
    )


def _mean_chi2(stretches: Sequence[np.ndarray], counts: np.ndarray) -> float:
    """Of the labels of stretches against the counts of all, per degree of freedom; longer ones weigh more."""
    sizes = np.array([s.size for s in stretches])
    classes, share = len(counts), counts / counts.sum()
    where, label = np.repeat(np.arange(len(sizes)), sizes), np.concatenate(stretches)
    cells, found = np.unique(where * classes + label, return_counts=True)
    chi2 = (found**2 / (sizes[cells // classes] * share[cells % classes])).sum() - sizes.sum()
    return round(float(chi2 / len(sizes) / (np.count_nonzero(counts) - 1)), 3)


def _at(clustering: Clustering, length: int) -> float:
    """Between lengths that were measured, linear in their logarithm; below them, in proportion to the length."""
    lengths = sorted(clustering)
    if length < lengths[0]:
        return 1 + (clustering[lengths[0]] - 1) * length / lengths[0]
    return float(np.interp(math.log(length), [math.log(n) for n in lengths], [clustering[n] for n in lengths]))
