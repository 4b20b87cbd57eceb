"""train.csv and eval.csv: a line for each of metrics.jsonl, for spreadsheets."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

from xlatrain.engine.loggers.logger import Numbers, numbers_of

KINDS = ("train", "eval")


class CsvTables:
    """metrics: the metrics.jsonl that they are made of, also what a run has written that goes on; a column that comes
    later has them made anew."""

    def __init__(self, folder: Path, metrics: Path):
        self._folder, self._metrics = folder, metrics
        self._writers: dict[str, csv.DictWriter] = {}
        self._files: dict[str, Any] = {}
        for kind in KINDS:
            (folder / f"{kind}.csv").unlink(missing_ok=True)
            self._make(kind)

    def write(self, kind: str, step: int, epoch: float, values: Numbers) -> None:
        """Its line stands in metrics.jsonl already."""
        if kind not in KINDS:
            return
        row = {"step": step, "epoch": round(epoch, 6), **values}
        writer = self._writers.get(kind)
        if writer is None or not row.keys() <= set(writer.fieldnames):
            self._make(kind)
        else:
            writer.writerow(row)

    def flush(self) -> None:
        for file in self._files.values():
            file.flush()

    def close(self) -> None:
        for file in self._files.values():
            file.close()

    def _make(self, kind: str) -> None:
        text = self._metrics.read_text() if self._metrics.exists() else ""
        lines = map(json.loads, text.splitlines())
        rows = [numbers_of(line) for line in lines if line["kind"] == kind]
        if not rows:
            return
        if kind in self._files:
            self._files.pop(kind).close()
        path = self._folder / f"{kind}.csv"
        columns = list(dict.fromkeys(name for row in rows for name in row))
        draft = path.with_name(f"{path.name}.part")
        with draft.open("w", newline="") as file:
            writer = csv.DictWriter(file, columns)
            writer.writeheader()
            writer.writerows(rows)
        draft.replace(path)
        self._files[kind] = path.open("a", newline="", buffering=1)
        self._writers[kind] = csv.DictWriter(self._files[kind], columns)
