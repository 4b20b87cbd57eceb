"""Whether a remote folder can be written with the credentials at hand: found by writing to it."""

from __future__ import annotations

import secrets
import threading

import fsspec

from xlatrain.credentials import masked
from xlatrain.data.storage.access import access_cure, missing_bucket
from xlatrain.data.storage.streams import check_url, join_url
from xlatrain.errors import ConfigError, Fault, in_a_line

_SECONDS = 10.0  # libraries of stores try for minutes


def store_faults(key: str, url: str, seconds: float = _SECONDS) -> list[Fault]:
    """What keeps one from writing, reading and removing a small object under a url: a package that is missing, a bucket
    that is not there, credentials that are not there or not enough, no answer in time."""
    try:
        check_url(url, key)
    except ConfigError as error:
        return list(error.faults)
    raised: list[Exception] = []

    def attempt() -> None:
        try:
            _write_and_read(url)
        except Exception as error:  # of any store's library
            raised.append(error)

    thread = threading.Thread(target=attempt, daemon=True)
    thread.start()
    thread.join(seconds)
    if thread.is_alive():
        return [Fault(key, masked(f"{url} does not answer within {seconds:g} s"), "see that its host can be reached")]
    if not raised:
        return []
    (error,) = raised
    if bucket := missing_bucket(url):
        return [bucket if bucket.key == key else Fault(key, bucket.problem, bucket.cure)]
    problem = f"{url} cannot be written: {type(error).__name__}: {in_a_line(error)}"
    return [Fault(key, masked(problem), masked(access_cure(url, error)))]


def _write_and_read(url: str) -> None:
    system, path = fsspec.url_to_fs(join_url(url, f".xlatrain-{secrets.token_hex(8)}"))
    content = secrets.token_bytes(16)
    try:
        system.pipe_file(path, content)
        if system.cat_file(path) != content:
            raise OSError("what was written is not what is read")
    finally:
        if system.exists(path):
            system.rm_file(path)
