"""A remote object as a file of this machine."""

from __future__ import annotations

import hashlib
import os
import tempfile
from pathlib import Path

from xlatrain.data.storage.retry import DEFAULTS, MIB, ReadOptions
from xlatrain.data.storage.streams import check_url, describe, open_stream
from xlatrain.errors import ConfigError, DataError


def fetch(url: str, folder: Path, key: str, options: ReadOptions = DEFAULTS) -> Path:
    """The object as a file of its own name below a folder: fetched, unless the store's mark says that it is the one
    fetched before. key: the option that names it. Raises ConfigError for a url that nothing here opens, and OSError
    with the reason where it cannot be read."""
    check_url(url, key)
    name = url.partition("?")[0].rpartition("/")[2]
    try:
        size, mark = describe(url, options)
        place = folder / hashlib.sha256(f"{url} {size} {mark}".encode()).hexdigest()[:32] / name
        if mark and place.is_file() and place.stat().st_size == size:
            return place
        place.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=place.parent, prefix=".part-") as draft:
            with open_stream(url, options, size=size) as stream:
                while piece := stream.read(MIB):
                    draft.write(piece)
            draft.flush()
            os.link(draft.name, complete := f"{draft.name}.whole")
            os.replace(complete, place)
    except (ConfigError, OSError):
        raise
    except DataError as error:
        raise OSError(str(error)) from error
    except Exception as error:  # of any store's library
        raise OSError(f"{url}: {type(error).__name__}: {error}") from error
    return place
