"""An object is downloaded once by a host, whoever reads it, and copies stay within their limit."""

import multiprocessing
import os
import random
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.data.storage.reading import QUICK, cached, content, hash_of, read_ahead_threads, read_cached, read_in_steps
from xlatrain.data.storage.disk_cache import DiskCache, _lock
from xlatrain.data.storage.streams import (
    open_stream,
    read_all,
)
from xlatrain.errors import DataError


def names(server):
    return [name for name, _ in server.requests]


def test_the_second_reading_makes_no_request(server, tmp_path):
    data, cuts = content(300_000), iter([10_000, 5_000])
    server.cut = lambda length: next(cuts, None)
    url, options = server.put("a.tar", data), cached(tmp_path / "new" / "cache")
    with open_stream(url, options, size=len(data)) as stream:
        assert stream.read(len(data) + 1) == data
    once = len(server.requests)
    with open_stream(url, options, size=len(data)) as stream:
        assert stream.read(len(data) + 1) == data
    assert len(server.requests) == once
    with open_stream(url, options, start=1_000, size=len(data)) as stream:
        assert (stream.read(5), stream.position) == (data[1_000:1_005], 1_005)
    assert len(server.requests) == once


def test_without_a_size_the_store_is_asked_for_it_alone(server, tmp_path):
    data = content(300_000)
    url, options = server.put("a.tar", data), cached(tmp_path)
    for _ in range(2):
        with open_stream(url, options) as stream:
            assert stream.read(len(data) + 1) == data
    spans = [span for _, span in server.requests]
    assert spans.count("bytes=0-0") == 2
    assert sum(span.startswith("bytes=32768-") for span in spans) == 1
    assert read_all(server.put("index.json", b"1"), options) == b"1"
    assert read_all(server.put("index.json", b"2"), options) == b"2"


@pytest.mark.slow
def test_processes_of_a_host_download_an_object_once(server, tmp_path):
    data, size = content(1_000_000), 1_000_000
    url = server.put("a.tar", data)
    assert read_all(url, QUICK) == data  # the event loop of this process runs when the others start
    server.requests.clear()
    contexts = [multiprocessing.get_context(name) for name in ("spawn", "forkserver")]
    ready, results = contexts[0].Barrier(2), contexts[0].Queue()
    processes = [c.Process(target=read_cached, args=(url, str(tmp_path), size, ready, results)) for c in contexts]
    for process in processes:
        process.start()
    assert {results.get(timeout=120) for _ in processes} == {hash_of(data)}
    for process in processes:
        process.join()
        assert process.exitcode == 0
    spans = [span for _, span in server.requests]
    assert len(spans) == len(set(spans)) == -(-size // 32_768)


def test_many_readers_at_once_stay_within_the_limit_and_read_what_they_asked_for(server, tmp_path):
    data = {f"{i}.tar": content(50_000, i) for i in range(8)}
    for name, body in data.items():
        server.put(name, body)
    options, most, done = cached(tmp_path, 170_000), [], threading.Event()

    def read(seed):
        name = random.Random(seed).choice(sorted(data))
        with open_stream(server.url(name), options, size=50_000) as stream:
            return read_in_steps(stream, seed) == data[name]

    def watch():
        while not done.is_set():
            most.append(sum(size_of(path) for path in tmp_path.iterdir()))

    def size_of(path):
        try:
            return path.stat().st_size
        except FileNotFoundError:
            return 0

    watcher = threading.Thread(target=watch)
    watcher.start()
    with ThreadPoolExecutor(6) as pool:
        assert all(pool.map(read, range(60)))
    done.set()
    watcher.join()
    assert not list(tmp_path.glob("*.part"))
    assert sum(size_of(path) for path in tmp_path.iterdir()) <= 170_000
    assert max(most) >= 50_000


def test_a_shard_written_anew_is_not_taken_from_the_cache(server, tmp_path):
    """Same url and size, other checksum; and a copy that was cut short is fetched again."""
    options, old, new = cached(tmp_path), content(5_000, 1), content(5_000, 2)
    for data, version in ((old, "v1"), (new, "v2"), (new, "v2")):
        with open_stream(server.put("a.tar", data), options, size=5_000, version=version) as stream:
            assert stream.read(9_000) == data
    assert len(names(server)) == 2
    for copy in tmp_path.glob("*.object"):
        copy.write_bytes(copy.read_bytes()[:100])
    with open_stream(server.url("a.tar"), options, size=5_000, version="v2") as stream:
        assert stream.read(9_000) == new


def test_the_least_recently_used_copy_goes_first(server, tmp_path):
    options, used = cached(tmp_path, 3_000), 1_000

    def read(name):
        before, known = len(server.requests), set(tmp_path.glob("*.object"))
        with open_stream(server.url(name), options, size=1_000) as stream:
            assert stream.read(2_000) == server.objects[name]
        nonlocal used
        for path in set(tmp_path.glob("*.object")) - known:  # clocks of file systems are coarse
            used += 1
            os.utime(path, (used, used))
        return len(server.requests) > before

    for i, name in enumerate("abcd"):
        server.put(name, content(1_000, i))
    assert [read(name) for name in "abc"] == [True] * 3
    assert not read("a")  # now b is the oldest
    assert read("d")
    assert [read(name) for name in "acd"] == [False] * 3
    assert read("b")
    assert sum(path.stat().st_size for path in tmp_path.glob("*.object")) == 3_000


def test_an_evicted_copy_that_is_open_reads_on(server, tmp_path):
    options = cached(tmp_path, 100_000)
    a, b = content(80_000, 1), content(80_000, 2)
    with open_stream(server.put("a", a), options, size=80_000) as first:
        assert first.read(10) == a[:10]
        with open_stream(server.put("b", b), options, size=80_000) as second:
            assert second.read(90_000) == b
        assert first.read(90_000) == a[10:]
    assert len(list(tmp_path.glob("*.object"))) == 1


def test_an_object_larger_than_the_limit_is_streamed_and_evicts_nothing(server, tmp_path):
    options, small, large = cached(tmp_path, 1_000), content(1_000, 1), content(5_000, 2)
    for name, data in (("small", small), ("large", large), ("large", large)):
        with open_stream(server.put(name, data), options, size=len(data)) as stream:
            assert stream.read(9_000) == data
    assert names(server) == ["small", "large", "large"]
    assert [path.stat().st_size for path in tmp_path.glob("*.object")] == [1_000]


def test_what_killed_processes_left_is_cleared_but_not_what_others_write(server, tmp_path):
    left, alive, other = tmp_path / "1.part", tmp_path / "2.part", tmp_path / "notes.txt"
    left.write_bytes(bytes(900))
    alive.write_bytes(bytes(600))
    other.write_bytes(bytes(5_000))
    data = content(400)
    with _lock(alive), open_stream(server.put("a", data), cached(tmp_path, 1_000), size=400) as stream:
        assert stream.read(500) == data
    assert not left.exists()
    assert alive.exists()
    assert other.exists()
    assert len(list(tmp_path.glob("*.object"))) == 1


def test_a_leftover_of_the_same_object_is_written_anew(tmp_path):
    class Opened(list):
        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

        def read(self, n):
            return self.pop(0) if self else b""

    cache, bad = DiskCache(tmp_path, limit=20), OSError("killed")

    class Broken(Opened):
        def read(self, n):
            raise bad

    with pytest.raises(OSError, match="killed"):
        cache.open("key", 6, Broken)
    assert not [*tmp_path.glob("*.part"), *tmp_path.glob("*.object")]
    with cache.open("key", 6, lambda: Opened([b"abc", b"def"])) as file:
        assert file.read() == b"abcdef"
    (copy,) = tmp_path.glob("*.object")
    copy.rename(copy.with_suffix(".part"))
    copy.with_suffix(".part").write_bytes(b"damaged and longer")
    with cache.open("key", 6, lambda: Opened([b"abcdef"])) as file:
        assert file.read() == b"abcdef"


def test_a_failed_download_leaves_no_copy(server, tmp_path):
    server.put("a", content(100))
    with pytest.raises(DataError, match="ended at byte 100 of 200"):
        open_stream(server.url("a"), cached(tmp_path), size=200)
    with pytest.raises(FileNotFoundError):
        open_stream(server.url("none"), cached(tmp_path), size=200)
    assert not [*tmp_path.glob("*.part"), *tmp_path.glob("*.object")]
    assert not read_ahead_threads()


def test_a_cache_folder_that_cannot_be_written_says_so(server, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match=f"the cache folder {tmp_path}/file/cache cannot be written"):
        open_stream(server.put("a", b"1"), cached(tmp_path / "file" / "cache"), size=1)
