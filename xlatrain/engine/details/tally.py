"""What is counted of each image of an evaluation."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from xlatrain.engine.answers import Judged

BINS = 15  # of confidence, as Guo et al., arXiv:1706.04599, have them (recalled)


@dataclass(frozen=True)
class Mistake:
    """An image that is taken for another class. number: in the validation set. confidence: the probability of the class
    it is taken for; of_label: that of its own."""

    number: int
    label: int
    predicted: int
    confidence: float
    of_label: float


class Tally:
    """Counts, fed batch by batch; images that could not be decoded are counted apart.

    confusion: int64 [classes, classes], images by label and by what they are taken for. right5: int64 [classes], images
    with their label among the five likeliest. The bins of confidence, 0 to 1 in BINS equal parts: counts int64 [BINS],
    confidence and right, sums over them.
    """

    def __init__(self, classes: int, most_mistakes: int):
        self.confusion = np.zeros((classes, classes), np.int64)
        self.right5 = np.zeros(classes, np.int64)
        self.counts = np.zeros(BINS, np.int64)
        self.confidence, self.right = np.zeros(BINS), np.zeros(BINS)
        self.skipped, self.loss = 0, 0.0
        self._most = most_mistakes
        self._mistakes: list[Mistake] = []

    def add(self, judged: Judged) -> None:
        """Count a batch."""
        good = np.logical_not(judged.skipped)
        self.skipped += int(judged.skipped.sum())
        judged = Judged(*(part[good] for part in (judged.numbers, judged.scores, judged.labels, judged.skipped)))
        labels, rows = judged.labels, np.arange(len(judged.labels))
        ranks = judged.ranks()
        right = ranks < 1
        others = judged.scores.copy()
        others[rows, labels] = np.where(right, others[rows, labels], -np.inf)  # a tie counts against the model
        predicted = others.argmax(1)
        np.add.at(self.confusion, (labels, predicted), 1)
        np.add.at(self.right5, labels[ranks < 5], 1)
        self.loss -= float(judged.scores[rows, labels].sum())
        sure, own = (np.nan_to_num(np.exp(judged.scores[rows, of])) for of in (predicted, labels))
        bins = np.clip(np.ceil(sure * BINS).astype(int) - 1, 0, BINS - 1)
        np.add.at(self.counts, bins, 1)
        np.add.at(self.confidence, bins, sure)
        np.add.at(self.right, bins, right)
        self._mistakes += [
            Mistake(int(judged.numbers[i]), int(labels[i]), int(predicted[i]), float(sure[i]), float(own[i]))
            for i in np.flatnonzero(np.logical_not(right))
        ]
        self._mistakes = sorted(self._mistakes, key=lambda m: (-m.confidence, m.number))[: self._most]

    @property
    def images(self) -> np.ndarray:
        """By class: int64 [classes]."""
        return self.confusion.sum(1)

    @property
    def mistakes(self) -> list[Mistake]:
        """The surest first."""
        return self._mistakes

    def sums(self) -> dict[str, float]:
        """As an evaluation adds them up, by the names of EvalSums."""
        return {
            "loss": self.loss,
            "top1": float(np.trace(self.confusion)),
            "top5": float(self.right5.sum()),
            "examples": float(self.confusion.sum()),
            "skipped": float(self.skipped),
        }

    def calibration_error(self) -> float:
        """The expected calibration error: |accuracy - confidence| of each bin, weighted by its images."""
        return float(np.abs(self.right - self.confidence).sum() / max(1, self.counts.sum()))
