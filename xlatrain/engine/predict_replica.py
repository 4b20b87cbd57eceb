"""Classes of images that have no labels: by the step that evaluates, on all replicas, each image once."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np

from xlatrain.engine.answers import Judged, describe_weights_used, judge, open_members
from xlatrain.engine.details.write import class_names
from xlatrain.engine.predictions import Prediction, write_predictions
from xlatrain.engine.progress import ProgressLine
from xlatrain.preflight.checked import CheckedPrediction
from xlatrain.words import counted
from xlatrain.xla import pulse
from xlatrain.xla.heartbeat import BUILDING
from xlatrain.xla.replica import Replica

_LINE_EVERY = 5.0  # seconds between lines of progress


class Pace:
    """How far a prediction is, and how fast, shown now and then."""

    def __init__(self, progress: ProgressLine, images: int, compiling: Callable[[], float]):
        """compiling: gives the seconds since now that went into compiling."""
        self._progress, self._images, self._compiling = progress, images, compiling
        self._began = time.perf_counter()
        self._first: tuple[float, int] | None = None  # when the first batch was done, which waits for the compiler
        self._last = self._shown = time.perf_counter()
        self._done = 0

    @property
    def images_per_second(self) -> float:
        """After the first batch; of the only one, since it was asked for, without compiling."""
        if self._first is None:
            return 0.0
        if self._done == self._first[1]:
            return self._done / max(1e-9, self._last - self._began - self._compiling())
        return (self._done - self._first[1]) / max(1e-9, self._last - self._first[0])

    def show(self, done: int) -> None:
        """So many images are done."""
        self._last, self._done = time.perf_counter(), done
        self._first = self._first or (self._last, done)
        due = self._last - self._shown > _LINE_EVERY or done == self._images
        self._shown = self._last if due else self._shown
        self._progress.step(done, f"{self.images_per_second:.0f} images/s", due)


class TopClasses:
    """The likeliest classes of every image, fed batch by batch in any order. classes: int32 [images, k], probabilities:
    float32 [images, k], skipped: bool [images]."""

    def __init__(self, images: int, k: int):
        self.classes, self.probabilities = np.full((images, k), -1, np.int32), np.zeros((images, k), np.float32)
        self.skipped, self._seen = np.zeros(images, bool), np.zeros(images, bool)
        self.done = 0

    def add(self, judged: Judged) -> None:
        """Take in a batch."""
        rows, k = judged.numbers, self.classes.shape[1]
        likeliest = np.argsort(-judged.scores, axis=1, kind="stable")[:, :k]
        self.classes[rows] = likeliest
        self.probabilities[rows] = np.exp(np.take_along_axis(judged.scores, likeliest, 1))
        self.skipped[rows] = judged.skipped
        self._seen[rows] = True
        self.done += len(rows)

    def check_whole(self) -> None:
        """Raises RuntimeError unless each image was seen once."""
        if self.done != len(self._seen) or not self._seen.all():
            raise RuntimeError(f"{self.done} answers came for {len(self._seen)} images")


def predict_replica(replica: Replica, prediction: CheckedPrediction) -> dict[str, Any]:
    """Predict, and write the file on the first replica, which returns the summary. Runs on every replica."""
    evaluation = prediction.evaluation
    split = evaluation.dataset.val
    with ProgressLine(split.samples, silent=not replica.is_first, unit="image") as progress:
        progress.say(f"predicting {counted(split.samples, 'image')} by {describe_weights_used(evaluation, replica)}")
        pulse.mark(replica.ordinal, BUILDING, 0)
        members = open_members(evaluation, replica, progress.say)
        if not replica.is_first:
            judge(members, replica)
            return {}
        found = TopClasses(split.samples, min(evaluation.config.predict.top_k, evaluation.dataset.num_classes))
        pace = Pace(progress, split.samples, lambda: sum(step.capture_seconds for step in {m.step for m in members}))

        def take(judged: Judged) -> None:
            found.add(judged)
            pace.show(found.done)

        judge(members, replica, take)
        found.check_whole()
        _write(prediction, found)
        progress.say(f"wrote {prediction.out}")
    return {
        "status": "done",
        "images": split.samples,
        "damaged": int(found.skipped.sum()),
        "images_per_second": round(pace.images_per_second, 1),
        "replicas": replica.world_size,
        "compiles": {"eval": replica.counts("eval step").compiles["eval step"]},
    }


def _write(prediction: CheckedPrediction, found: TopClasses) -> None:
    """Write the file. Images that could not be decoded are read once more, to say why."""
    data = prediction.evaluation.dataset
    names, preparer = class_names(data.class_names, data.num_classes), data.val.preparer()
    rows = (
        Prediction.of(
            name,
            names,
            found.classes[i],
            found.probabilities[i],
            data.val.problem(i, preparer) if found.skipped[i] else None,
        )
        for i, name in enumerate(data.val.names())
    )
    write_predictions(prediction.out, found.classes.shape[1], rows)
