"""Checkpoints looked at and read; what is damaged is passed over, and said to be."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from xlatrain.checkpoint.manifest import MANIFEST, MOST_BYTES, TENSORS, DamagedError, Manifest, MissingError
from xlatrain.checkpoint.store import Store
from xlatrain.checkpoint.tensors import Tensors, checksum


@dataclass(frozen=True)
class Found:
    """manifest: of the newest checkpoint that is sound, if one is. damaged: the names of newer ones, or of all, but
    for those that were never finished."""

    manifest: Manifest | None
    damaged: tuple[str, ...]


def find_newest(store: Store, report: Callable[[str], None]) -> Found:
    """The newest checkpoint whose every byte is as it was written. report: told of each that is passed over, and why.
    Raises OSError when the store cannot be looked into."""
    damaged = []
    for name in reversed(store.names()):
        try:
            manifest = read_manifest(store, name)
            check_tensors(store, manifest)
            return Found(manifest, tuple(damaged))
        except DamagedError as error:
            if not (isinstance(error, MissingError) and not store.whole):
                damaged.append(name)
            report(f"warning: the checkpoint {store.place}/{name} is passed over: {error}")
    return Found(None, tuple(damaged))


def read_manifest(store: Store, name: str) -> Manifest:
    """Raises DamagedError."""
    with _opened(MANIFEST), store.open(name, MANIFEST) as file:
        text = file.read(MOST_BYTES + 1)
    if len(text) > MOST_BYTES:
        raise DamagedError(f"{MANIFEST} is larger than {MOST_BYTES >> 20} MiB")
    return Manifest.parse(text, name)


def check_tensors(store: Store, manifest: Manifest) -> None:
    """See that the file of tensors is as it was written. Raises DamagedError."""
    with _opened(TENSORS), store.open(manifest.name, TENSORS) as file:
        size, digest = checksum(file)
    if size != manifest.bytes:
        raise DamagedError(f"{TENSORS} has {size:,} bytes, and {manifest.bytes:,} were written")
    if digest != manifest.sha256:
        raise DamagedError(f"{TENSORS} was changed after it was written: its SHA-256 does not fit")


def read_tensors(store: Store, name: str) -> Tensors:
    """The tensors of a checkpoint that was found sound. Those of a disk are read when they are used. Raises
    DamagedError."""
    from safetensors import SafetensorError
    from safetensors.torch import load, load_file

    try:
        with _opened(TENSORS):
            if path := store.local(name, TENSORS):
                return load_file(path)
            with store.open(name, TENSORS) as file:
                return load(file.read())
    except SafetensorError as error:
        raise DamagedError(f"{TENSORS} cannot be read: {error}") from None


@contextlib.contextmanager
def _opened(file: str) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        raise MissingError(f"{file} is missing") from None
    except OSError as error:
        raise DamagedError(f"{file} cannot be read: {error.strerror or error}") from None
