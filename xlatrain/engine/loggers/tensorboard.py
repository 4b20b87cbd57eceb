"""TensorBoard's event files."""

from __future__ import annotations

from pathlib import Path

from xlatrain.engine.loggers.logger import Numbers


class TensorBoard:
    """start: the step that the run goes on from; events of later ones are taken back."""

    def __init__(self, folder: Path, start: int | None):
        from torch.utils.tensorboard import SummaryWriter

        self._board = SummaryWriter(str(folder), purge_step=None if start is None else start + 1)

    def write(self, kind: str, step: int, epoch: float, values: Numbers) -> None:
        for name, value in values.items():
            self._board.add_scalar(f"{kind}/{name}", value, step)

    def flush(self) -> None:
        self._board.flush()

    def close(self) -> None:
        self._board.close()
