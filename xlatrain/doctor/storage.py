"""Where data come from and results go: read, and looked at, for as long as a doctor may take."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

from xlatrain.config.data import DigitsConfig, ShardsConfig
from xlatrain.config.schema import Config
from xlatrain.credentials import masked
from xlatrain.data.storage.access import access_cure
from xlatrain.data.storage.first_shard import first_shard
from xlatrain.data.storage.retry import ReadOptions
from xlatrain.data.storage.streams import join_url, open_stream
from xlatrain.doctor.finding import FAILED, NOTE, OK, UNKNOWN, Finding, Machine, failed
from xlatrain.errors import ConfigError, DataError
from xlatrain.files import existing
from xlatrain.preflight.writable import store_faults

_BYTES, _SECONDS = 8 << 20, 1.5  # that are read at most
_GIB = 2**30
_LEAST = _GIB  # weights of the largest EfficientNet, their average and those of the run before: a third of it
_ONCE = ReadOptions(retries=0)


def check_reading(machine: Machine, config: Config) -> Iterator[Finding]:
    """The first shard of the training split: whether it can be read, and how fast."""
    data = config.data
    if not isinstance(data, ShardsConfig) or (isinstance(data, DigitsConfig) and not data.root):
        what = f"data of your own ({data._target_})" if data._target_ else f"data={data.name}"
        yield Finding(UNKNOWN, f"not read: {what} has no shards of a folder or URL that is named")
        return
    try:
        url, bytes_ = first_shard(data.root, data.train, _ONCE)
        size, seconds = _read(url, bytes_)
    except ConfigError as error:
        yield from map(failed, error.faults)
    except FileNotFoundError as error:
        text = f"there is no {error.filename or error}"
        yield Finding(FAILED, masked(text), masked(access_cure(join_url(data.root, data.train), error)))
    except (OSError, DataError) as error:
        root = join_url(data.root, data.train)
        yield Finding(FAILED, masked(f"{root} cannot be read: {error}"), masked(access_cure(data.root, error)))
    else:
        rate = f"{size / max(seconds, 1e-6) / 1e6:,.0f} MB/s ({size / 1e6:.1f} MB in {seconds:.2f} s"
        local = "" if "://" in url else ", perhaps out of memory"
        yield Finding(OK, masked(f"{url}: {rate}{local})"))


def late_data(config: Config) -> str:
    """The command that shows why nothing comes in time."""
    url = join_url(getattr(config.data, "root", ""), getattr(config.data, "train", ""))
    return masked(access_cure(url, TimeoutError()))


def _read(url: str, bytes_: int | None) -> tuple[int, float]:
    """Bytes and seconds of the first megabytes."""
    size, started = 0, time.perf_counter()
    with open_stream(url, _ONCE, size=bytes_) as stream:
        while size < _BYTES and time.perf_counter() - started < _SECONDS and (piece := stream.read(1 << 18)):
            size += len(piece)
    return size, time.perf_counter() - started


def check_space(machine: Machine, config: Config) -> Iterator[Finding]:
    """Whether the folder of runs can be written, and what is free there."""
    root = config.run.root
    if "://" in root:
        faults = store_faults("run.root", root, _SECONDS)
        yield from map(failed, faults)
        if not faults:
            text = masked(f"run.root: {root} can be written, but runs write to a folder of this machine")
            yield Finding(FAILED, text, "run.root=FOLDER")
        return
    there = existing(Path(root))
    free = shutil.disk_usage(there).free
    if not there.is_dir() or not os.access(there, os.W_OK):
        yield Finding(FAILED, f"run.root: {root} cannot be written", "run.root=FOLDER, one of yours")
    elif free < _LEAST:
        text = f"{free / _GIB:.2f} GiB are free in {there}, where runs go"
        yield Finding(FAILED, text, f"du -xh --max-depth=1 {there} | sort -h; or run.root=FOLDER")
    else:
        yield Finding(OK, f"{free / _GIB:,.1f} GiB free in {there}, where runs go")
    yield from _cache(config)


def _cache(config: Config) -> Iterator[Finding]:
    """The cache of remote shards against the room there is."""
    cache, limit = getattr(config.data, "cache", None), getattr(config.data, "cache_gb", None)
    if not cache:
        return
    there = existing(Path(cache))
    free = shutil.disk_usage(there).free
    taken = sum(p.stat().st_size for p in Path(cache).glob("*.object")) if Path(cache).is_dir() else 0
    if not os.access(there, os.W_OK):
        yield Finding(FAILED, f"data.cache: {cache} cannot be written", "data.cache=FOLDER, one of yours")
    elif limit is None:
        yield Finding(NOTE, f"data.cache has no limit, and {there} has {free / _GIB:,.1f} GiB", "data.cache_gb=...")
    elif limit * 1e9 > free + taken:
        text = f"data.cache_gb={limit:g} in {cache}, where there is room for {(free + taken) / 1e9:.1f} GB"
        yield Finding(FAILED, text, f"data.cache_gb={(free + taken) * 0.9 / 1e9:.1f}")
