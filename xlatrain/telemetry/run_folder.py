"""The folder of a run: config.yaml, metrics.jsonl, summary.json, train.log, TensorBoard events."""

from __future__ import annotations

import json
import logging
import math
from pathlib import Path
from typing import Any

logger = logging.getLogger("xlatrain")


def claim_run_folder(root: str, name: str) -> Path:
    """Make the folder of a new run. One that is there already is kept beside it as name.1, name.2, ...: nothing that
    was saved is ever lost."""
    folder = Path(root) / name
    if folder.exists() and any(folder.iterdir()):
        number = 1
        while (kept := folder.with_name(f"{folder.name}.{number}")).exists():
            number += 1
        folder.rename(kept)
        logger.warning("%s was there already and is kept as %s", folder, kept)
    folder.mkdir(parents=True, exist_ok=True)
    return folder.resolve()


def log_to(folder: Path) -> None:
    """Copy the log of this process to train.log."""
    handler = logging.FileHandler(folder / "train.log")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False  # torch_xla configures the root logger, which would print every line again


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write a JSON file whole or not at all. NaN and infinities, which JSON has not, become null."""
    draft = path.with_name(path.name + ".part")
    draft.write_text(json.dumps(_finite(content), indent=2) + "\n")
    draft.replace(path)


class MetricsWriter:
    """Appends to metrics.jsonl, one object a line, and to TensorBoard events."""

    def __init__(self, folder: Path):
        from torch.utils.tensorboard import SummaryWriter

        self._lines = (folder / "metrics.jsonl").open("a", buffering=1)
        self._board = SummaryWriter(str(folder))

    def write(self, kind: str, step: int, epoch: float, **values: Any) -> None:
        """kind: train, eval or event. step: optimizer steps done; epoch: the same in epochs."""
        line = {"kind": kind, "step": step, "epoch": round(epoch, 6), **values}
        self._lines.write(json.dumps(_finite(line)) + "\n")
        for name, value in values.items():
            if isinstance(value, (int, float)) and not isinstance(value, bool):
                self._board.add_scalar(f"{kind}/{name}", value, step)

    def close(self) -> None:
        self._lines.close()
        self._board.close()


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _finite(v) for k, v in value.items()}
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
