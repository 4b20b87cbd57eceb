"""Files: written whole or not at all, and where those are kept between runs that can be made again, the last figure of
`xlatrain data bench` among them."""

from __future__ import annotations

import contextlib
import fcntl
import json
import math
import os
import shutil
import threading
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any


def write_json(path: Path, content: dict[str, Any] | list[Any]) -> None:
    """Write a JSON file whole or not at all. NaN and infinities, which JSON has not, become null."""
    write_text(path, json.dumps(finite(content), indent=2) + "\n")


def write_text(path: Path, text: str) -> None:
    """Write a file whole or not at all."""
    with drafted(path) as draft:
        draft.write_text(text)


@contextlib.contextmanager
def drafted(path: Path, folder: bool = False) -> Iterator[Path]:
    """A file, or an empty folder, beside this one to write to, which takes its place at the end; nothing stays of it
    after an error."""
    draft = path.with_name(path.name + ".part")
    try:
        if folder:
            _remove(draft)
            draft.mkdir()
        yield draft
        draft.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            _remove(draft)
        raise


def _remove(path: Path) -> None:
    """A file, or a folder with what is in it."""
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def write_once(path: Path, content: bytes) -> bool:
    """Write a file whole, if nobody has yet. True when this call did."""
    draft = path.with_name(f"{path.name}.{os.getpid()}.{threading.get_ident()}")
    draft.write_bytes(content)
    try:
        os.link(draft, path)
    except FileExistsError:
        return False
    finally:
        draft.unlink()
    return True


def existing(folder: Path) -> Path:
    """A folder, or the nearest one above it that is there."""
    folder = folder.absolute()
    return next(path for path in (folder, *folder.parents) if path.exists())


def finite(value: Any) -> Any:
    """The same value, NaN and infinities in it as None."""
    if isinstance(value, dict):
        return {k: finite(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(v) for v in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def user_cache() -> Path:
    """xlatrain's folder in the user's cache, which need not exist yet."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "xlatrain"


@contextlib.contextmanager
def using(cache: Path) -> Iterator[None]:
    """Within, what is in a folder of user_cache() is not cleared."""
    with _lock(cache) as file:
        with contextlib.suppress(OSError):  # not every network's file system has locks
            fcntl.flock(file, fcntl.LOCK_SH)
        yield


@contextlib.contextmanager
def clearing(cache: Path) -> Iterator[bool]:
    """Whether nobody is using a folder of user_cache(), nor will before the end."""
    with _lock(cache) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        yield True


def _lock(cache: Path) -> IO[str]:
    cache.mkdir(parents=True, exist_ok=True)
    return (cache / ".lock").open("a")


@dataclass(frozen=True)
class InputFigure:
    """What the last `xlatrain data bench` of this user came to: images per second of one core, for images of a size."""

    images_per_second_core: float
    image_size: int
    data: str
    date: str


def keep_input_figure(figure: InputFigure) -> None:
    """Remember a figure for `xlatrain plan`."""
    path = user_cache() / "input.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, asdict(figure))


def last_input_figure() -> InputFigure | None:
    """The figure kept last, None where there is none."""
    try:
        return InputFigure(**json.loads((user_cache() / "input.json").read_text()))
    except (OSError, ValueError, TypeError):
        return None
