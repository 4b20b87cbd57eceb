"""How tests read objects, in this process or in another."""

import hashlib
import random
import threading

from xlatrain.data.storage.retry import ReadOptions
from xlatrain.data.storage.streams import open_stream

QUICK = ReadOptions(retries=8, wait=0.0, read_ahead=64 * 1024)


def content(size, seed=0):
    return random.Random(seed).randbytes(size)


def read_in_steps(stream, seed=1):
    """Reads of very different sizes, as a tar reader makes them."""
    sizes, parts = random.Random(seed), []
    while part := stream.read(sizes.choice([1, 512, 5_000, 120_000])):
        parts.append(part)
    return b"".join(parts)


def read_ahead_threads():
    return [t for t in threading.enumerate() if t.name == "read-ahead"]


def cached(folder, limit=None):
    return ReadOptions(wait=0.0, read_ahead=64 * 1024, cache=str(folder), cache_bytes=limit)


def read_cached(url, folder, size, ready, results):
    ready.wait()
    with open_stream(url, cached(folder), size=size) as stream:
        results.put(hash_of(stream.read(size + 1)))


def hash_of(data):
    return hashlib.sha256(data).hexdigest()
