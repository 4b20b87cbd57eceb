"""What the captured evaluation step says to the first images of a run's validation set."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np

from xlatrain.engine.answers import numbered_batches, open_members
from xlatrain.engine.contract import Answers, EvalSums
from xlatrain.errors import DataError
from xlatrain.formats import stablehlo_folder
from xlatrain.formats.checked import CheckedExport, Reference
from xlatrain.formats.kinds import STABLEHLO
from xlatrain.formats.plain import prepared
from xlatrain.xla.replica import Replica

MOST = 64  # images


def make_reference(replica: Replica, export: CheckedExport, draft: Path) -> Reference:
    """Evaluate images; export what only a replica can. Runs on the replica."""
    found = _evaluate(replica, export)
    if export.kind != STABLEHLO:  # it came from another process
        return found
    stablehlo_folder.write(replica, export, draft)
    again = stablehlo_folder.run(draft, prepared(export.evaluation, found.images))
    return replace(found, again=again)


def _evaluate(replica: Replica, export: CheckedExport) -> Reference:
    """Raises DataError where no image can be decoded."""
    evaluation = replace(export.evaluation, batch=min(MOST, export.evaluation.dataset.val.samples))
    (member,) = open_members(evaluation, replica, lambda text: None)
    images, logits = [], []
    with closing(numbered_batches(evaluation, replica)) as batches:
        for batch in batches:
            _, outputs = member(replica.to_device(EvalSums.zero()), replica.to_device(batch))
            answers = Answers.read(replica.to_host({"answers": outputs["answers"]}))
            images.append(batch["images"].numpy()[batch["mask"].numpy() == 1].copy())
            logits.append(answers.logits[np.logical_not(answers.skipped)])
            if sum(map(len, images)) >= MOST:
                break
    if not sum(map(len, images)):
        raise DataError("no image of the validation set can be decoded: there is nothing to compare with")
    return Reference(np.concatenate(images)[:MOST], np.concatenate(logits)[:MOST])
