"""What a check hands on: a run, or an evaluation, with nothing left open."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from xlatrain.config.schema import Config
from xlatrain.data.dataset import Dataset
from xlatrain.data.phase import Phase
from xlatrain.optim.schedule import ScheduleSpec
from xlatrain.preflight.lengths import Lengths

if TYPE_CHECKING:
    from xlatrain.preflight.origin import Origin


@dataclass(frozen=True)
class CheckedEvaluation:
    """An evaluation that can be started. Picklable.

    overrides: what was asked for. config: what it came to, with what was left open decided. batch: images per step over
    all replicas. fold: whether the first layers work on folded images. notes: what is said before it starts, as what it
    took from elsewhere than the command; a warning begins with "warning:". members: of an ensemble, each with weights
    of its own and all with these images.
    """

    overrides: tuple[str, ...]
    config: Config
    dataset: Dataset
    batch: int
    fold: bool = False
    notes: tuple[str, ...] = ()
    members: tuple[CheckedEvaluation, ...] = ()

    @property
    def each(self) -> tuple[CheckedEvaluation, ...]:
        """The evaluations of single weights that it is made of."""
        return self.members or (self,)


@dataclass(frozen=True)
class CheckedPrediction:
    """A prediction that can be started. Picklable. evaluation: of images without labels, a data.listed.ListedImages as
    its validation set. out: the file that is written."""

    evaluation: CheckedEvaluation
    out: Path


@dataclass(frozen=True)
class CheckedRun:
    """A training run that can be started: the configuration, and what it means for the data set that it names.
    Picklable. overrides, config, notes: as of CheckedEvaluation. evaluation: of what it trains. origin: the weights
    that it starts from, where it does not start from its seed."""

    overrides: tuple[str, ...]
    config: Config
    dataset: Dataset
    lengths: Lengths
    schedule: ScheduleSpec
    evaluation: CheckedEvaluation
    origin: Origin | None = None
    notes: tuple[str, ...] = ()

    @property
    def phases(self) -> tuple[Phase, ...]:
        """The stretches of the run, each with images of one size."""
        return self.lengths.phases
