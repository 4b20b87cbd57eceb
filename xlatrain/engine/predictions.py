"""A file of predictions: CSV, JSON lines or Parquet, a row for each image, in their order, whole or not at all."""

from __future__ import annotations

import csv
import itertools
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from xlatrain.errors import DataError
from xlatrain.files import drafted

_GROUP = 10_000  # rows of Parquet that are written together


@dataclass(frozen=True)
class Prediction:
    """path: where the image lies. indices, classes, probabilities: the likeliest first; none of an image that could not
    be decoded. error: why it could not."""

    path: str
    indices: tuple[int, ...]
    classes: tuple[str, ...]
    probabilities: tuple[float, ...]
    error: str | None

    @classmethod
    def of(
        cls, path: str, names: Sequence[str], classes: np.ndarray, probabilities: np.ndarray, error: str | None
    ) -> Prediction:
        """classes: int [k]; probabilities: float [k]; names: of all classes."""
        if error is not None:
            return cls(path, (), (), (), error)
        found = tuple(classes.tolist())
        # Float32 in as few digits as tell it apart from others.
        shown = tuple(float(str(p)) for p in probabilities.astype(np.float32))
        return cls(path, found, tuple(names[i] for i in found), shown, None)


def write_predictions(path: Path, k: int, rows: Iterable[Prediction]) -> None:
    """Write rows of at most k classes. Raises DataError where the disk says no; nothing stays then."""
    write: Callable[[Path, int, Iterable[Prediction]], None] = _WRITERS[path.suffix]
    try:
        with drafted(path) as draft:
            write(draft, k, rows)
    except OSError as error:
        raise DataError(f"{path} could not be written: {error.strerror or error}") from None


def _write_csv(path: Path, k: int, rows: Iterable[Prediction]) -> None:
    columns = [f"{name}_{i}" for i in range(1, k + 1) for name in ("index", "class", "probability")]
    with path.open("w", newline="", encoding="utf-8", errors="surrogateescape") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["path", *columns, "error"])
        for row in rows:
            cells = [*itertools.chain(*zip(row.indices, row.classes, row.probabilities, strict=True))]
            writer.writerow([row.path, *(cells or [""] * len(columns)), row.error or ""])


def _write_lines(path: Path, k: int, rows: Iterable[Prediction]) -> None:
    with path.open("w", encoding="utf-8") as file:
        for row in rows:
            found = [
                {"index": index, "class": name, "probability": probability}
                for index, name, probability in zip(row.indices, row.classes, row.probabilities, strict=True)
            ]
            file.write(json.dumps({"path": row.path, "classes": found, "error": row.error}) + "\n")


def _write_parquet(path: Path, k: int, rows: Iterable[Prediction]) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    kinds = {
        "path": pa.string(),
        "indices": pa.list_(pa.int32()),
        "classes": pa.list_(pa.string()),
        "probabilities": pa.list_(pa.float32()),
        "error": pa.string(),
    }
    with parquet.ParquetWriter(path, schema := pa.schema(kinds)) as writer:
        for group in _groups(rows):
            columns = {name: [_unicode(getattr(row, name)) for row in group] for name in kinds}
            writer.write_table(pa.table(columns, schema))


def _groups(rows: Iterable[Prediction]) -> Iterator[list[Prediction]]:
    rows = iter(rows)
    while group := list(itertools.islice(rows, _GROUP)):
        yield group


def _unicode(value: object) -> object:
    """Bytes of a file's name that are no text, which Parquet does not hold, written out."""
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode()
    return [_unicode(part) for part in value] if isinstance(value, tuple) else value


_WRITERS = {".csv": _write_csv, ".jsonl": _write_lines, ".parquet": _write_parquet}
