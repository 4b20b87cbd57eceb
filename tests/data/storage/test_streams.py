"""A stream of a remote object gives every byte once and in order, whatever happens to its connections."""

import logging
import multiprocessing
import os
import random
import re
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import fsspec
import pytest

from tests.data.test_shards import split, write
from xlatrain.config.schema import AugmentConfig, ShardsConfig
from xlatrain.data.order import Position
from xlatrain.data.phase import Phase, Place
from xlatrain.data.pipeline import ShardedSplit
from xlatrain.data.shard_format import read_index
from xlatrain.data.storage import remote, retry
from xlatrain.data.storage.disk_cache import DiskCache, _lock
from xlatrain.data.storage.retry import ReadOptions, retries_so_far
from xlatrain.data.storage.streams import (
    check_url,
    expand_braces,
    join_url,
    list_files,
    open_stream,
    read_all,
)
from xlatrain.errors import ConfigError, DataError

QUICK = ReadOptions(retries=8, wait=0.0, read_ahead=64 * 1024)


def content(size, seed=0):
    return random.Random(seed).randbytes(size)


class Server(ThreadingHTTPServer):
    """Serves `objects`; `cut(length)` says after how many bytes of an answer the connection breaks, None for never; it
    stays open, but silent, while `silent` is not set."""

    daemon_threads = True

    def __init__(self, ranges=True, sized=True):
        super().__init__(("127.0.0.1", 0), Handler)
        self.objects, self.ranges, self.sized = {}, ranges, sized
        self.cut, self.status, self.drops, self.requests = lambda length: None, None, 0, []
        self.lock, self.silent = threading.Lock(), threading.Event()
        self.silent.set()

    def url(self, name=""):
        return f"http://127.0.0.1:{self.server_port}/{name}"

    def put(self, name, data):
        self.objects[name] = data
        return self.url(name)

    def handle_error(self, *_):
        """A reader that goes away is no failure."""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_GET(self):
        server, name, span = self.server, self.path[1:], self.headers.get("Range")
        with server.lock:
            server.requests.append((name, span))
        if server.status or name not in server.objects:
            return self.answer(server.status or 404, b"")
        data = server.objects[name]
        if not (span and server.ranges):
            return self.answer(200, data)
        first, last = re.fullmatch(r"bytes=(\d+)-(\d*)", span).groups()
        first, last = int(first), min(int(last or len(data) - 1), len(data) - 1)
        if first >= len(data):
            return self.answer(416, b"")
        return self.answer(206, data[first : last + 1], f"bytes {first}-{last}/{len(data)}")

    def answer(self, status, body, span=None):
        self.send_response(status)
        if span:
            self.send_header("Content-Range", span)
        if self.server.sized:
            self.send_header("Content-Length", str(len(body)))
        else:
            self.send_header("Connection", "close")
        self.end_headers()
        with self.server.lock:
            cut = self.server.cut(len(body)) if body else None
            self.server.drops += cut is not None
        self.wfile.write(body[:cut])
        if cut is not None:
            self.wfile.flush()
            self.close_connection = True
            self.server.silent.wait()

    def log_message(self, *_):
        pass


@contextmanager
def serve(**options):
    server = Server(**options)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.silent.set()
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture
def server():
    with serve() as server:
        yield server


def read_in_steps(stream, seed=1):
    """Reads of very different sizes, as a tar reader makes them."""
    sizes, parts = random.Random(seed), []
    while part := stream.read(sizes.choice([1, 512, 5_000, 120_000])):
        parts.append(part)
    return b"".join(parts)


def read_ahead_threads():
    return [t for t in threading.enumerate() if t.name == "read-ahead"]


@pytest.mark.parametrize("known", [True, False])
def test_a_thousand_broken_connections_lose_nothing_and_repeat_nothing(server, known):
    data, lengths, before = content(3_000_000), random.Random(2), retries_so_far()
    server.cut = lambda length: k if (k := lengths.randint(1, 4_000)) < length else None
    with open_stream(server.put("a.tar", data), QUICK, size=len(data) if known else None) as stream:
        assert read_in_steps(stream) == data
        assert stream.position == len(data)
    assert server.drops >= 1_000
    assert retries_so_far() - before == server.drops


def test_a_retry_asks_for_the_byte_where_it_broke_and_the_log_names_it(server, caplog):
    data, cuts = content(10_000), iter([1_234])
    server.cut = lambda length: next(cuts, None)
    url = server.put("a.tar", data)
    with caplog.at_level(logging.WARNING, "xlatrain"), open_stream(url, QUICK, size=len(data)) as stream:
        assert stream.read(20_000) == data
    assert [span for _, span in server.requests] == ["bytes=0-9999", "bytes=1234-9999"]
    (message,) = caplog.messages
    assert url in message
    assert "byte 1234" in message
    assert "ClientPayloadError" in message
    assert "retry 1 of 8" in message


@pytest.mark.parametrize("sized", [True, False])
def test_a_server_without_ranges_is_read_up_to_the_byte_again(sized):
    with serve(ranges=False, sized=sized) as server:
        data, cuts = content(700_000), iter([100_000, 50_000, 300_000, 699_999])
        server.cut = lambda length: next(cuts, None)
        with open_stream(server.put("a.tar", data), QUICK, size=len(data)) as stream:
            assert stream.read(250_000) == data[:250_000]
            stream.skip(200_000)
            assert read_in_steps(stream) == data[450_000:]
        assert server.drops == 4
        assert len(server.requests) == 5


def test_a_server_without_ranges_and_sizes_is_read_to_its_end_once():
    with serve(ranges=False, sized=False) as server:
        data = content(300_000)
        assert read_all(server.put("a.tar", data), QUICK) == data
        assert len(server.requests) == 1


def test_a_whole_answer_is_neither_held_in_memory_nor_asked_for_twice():
    with serve(ranges=False) as server:
        data = content(8_000_000)
        with open_stream(server.put("a.tar", data), QUICK, size=len(data)) as stream:
            stream.read(1)
            ahead = stream._ahead
            while ahead._held < QUICK.read_ahead:
                threading.Event().wait(0.01)
            assert ahead._held < 2 * QUICK.read_ahead
            stream.skip(2_000_000)  # a new request would begin at the first byte
            assert read_in_steps(stream) == data[2_000_001:]
        assert len(server.requests) == 1


def test_an_early_end_is_read_on_when_the_size_is_known():
    with serve(ranges=False, sized=False) as server:
        data, cuts = content(200_000), iter([70_000])
        server.cut = lambda length: next(cuts, None)  # without a length this looks like an orderly end
        with open_stream(server.put("a.tar", data), QUICK, size=len(data)) as stream:
            assert read_in_steps(stream) == data


@pytest.mark.parametrize(("status", "error"), [(404, FileNotFoundError), (403, PermissionError)])
def test_what_another_attempt_would_not_change_is_raised_at_once(server, status, error):
    server.status, before = status, retries_so_far()
    with open_stream(server.url("a.tar"), QUICK) as stream, pytest.raises(error, match=r"a\.tar"):
        stream.read(1)
    with pytest.raises(error):
        read_all(server.url("index.json"), QUICK)
    assert retries_so_far() == before
    assert len(server.requests) == 2


def test_errors_of_the_server_are_retried_and_counted_anew_after_a_byte(server):
    data, n = content(90_000), QUICK.retries
    plan = [0] * n + [10] + [0] * (n - 1)  # as many errors as allowed, then ten bytes and a break, the first of as many
    server.cut = lambda length: plan.pop(0) if plan else None
    with open_stream(server.put("a.tar", data), QUICK, size=len(data)) as stream:
        assert stream.read(len(data)) == data
    assert server.drops == 2 * n


def test_a_server_that_stays_down_is_an_error_that_names_url_and_byte(server):
    data, before = content(300_000), retries_so_far()
    url = server.put("a.tar", data)
    sent = []
    server.cut = lambda length: 0 if sum(sent) >= 131_072 else sent.append(length)
    with open_stream(url, QUICK, size=len(data)) as stream:
        assert stream.read(131_072) == data[:131_072]
        for _ in range(2):  # not a quiet end on the next call
            with pytest.raises(DataError, match=f"(?s){url}.* byte 131072.* 8 retries.*ClientPayloadError"):
                stream.read(1)
    assert retries_so_far() - before == QUICK.retries


def test_a_connection_that_falls_silent_counts_as_broken(server, monkeypatch, caplog):
    monkeypatch.setattr(remote, "SILENCE", 0.3)
    data, cuts = content(30_000), iter([20_000, 0])
    server.cut = lambda length: next(cuts, None)
    server.silent.clear()
    with open_stream(server.put("a.tar", data), QUICK, size=len(data)) as stream:
        assert stream.read(len(data)) == data
    assert [("byte 20000" in line, "Timeout on reading data" in line) for line in caplog.messages] == [(True, True)] * 2


def test_nobody_listens():
    with serve() as server:
        url = server.url("a.tar")
    with open_stream(url, QUICK) as stream, pytest.raises(DataError, match=f"{url}.* byte 0.* Client"):
        stream.read(1)


def test_the_wait_doubles_and_has_an_end():
    waits = []
    patience = retry.Patience("u", ReadOptions(retries=40, wait=0.5), waits.append)
    for _ in range(40):
        patience.after(OSError("x"), 0)
    assert all(w <= full and w >= full / 2 for w, full in zip(waits, [0.5, 1, 2, 4, 8, 16, *[30] * 34], strict=True))
    assert len(set(waits[6:])) > 1
    with pytest.raises(DataError):
        patience.after(OSError("x"), 0)


@pytest.mark.parametrize("where", ["local", "file", "http", "memory"])
def test_start_read_skip_and_position(server, tmp_path, where):
    data = content(2_000_000)
    (tmp_path / "a.tar").write_bytes(data)
    fsspec.filesystem("memory").pipe_file("/source/a.tar", data)
    url = {
        "local": str(tmp_path / "a.tar"),
        "file": f"file://{tmp_path}/a.tar",
        "http": server.put("a.tar", data),
        "memory": "memory://source/a.tar",
    }[where]
    for size in (len(data), None):
        with open_stream(url, QUICK, start=1_000, size=size) as stream:
            assert stream.position == 1_000
            assert stream.read(10) == data[1_000:1_010]
            stream.skip(100)
            assert (stream.position, stream.read(10)) == (1_110, data[1_110:1_120])
            stream.skip(1_500_000)
            assert (stream.position, stream.read(200_000)) == (1_501_120, data[1_501_120:1_701_120])
            stream.skip(10_000_000)
            assert (stream.position, stream.read(1)) == (len(data), b"")
        assert read_all(url, QUICK) == data


def test_a_long_skip_does_not_fetch_what_lies_between(server):
    data = content(4_000_000)
    with open_stream(server.put("a.tar", data), QUICK, size=len(data)) as stream:
        stream.skip(3_900_000)
        assert stream.read(100_000) == data[3_900_000:]
    firsts = [int(re.match(r"bytes=(\d+)", span)[1]) for _, span in server.requests]
    assert not [first for first in firsts if 500_000 < first < 3_900_000]


def test_an_empty_object(server, tmp_path):
    (tmp_path / "e").touch()
    fsspec.filesystem("memory").pipe_file("/source/e", b"")
    for url in (server.put("e", b""), "memory://source/e", str(tmp_path / "e")):
        assert read_all(url, QUICK) == b""


def test_a_store_that_fails_now_and_then(monkeypatch):
    data, luck, before = content(500_000), random.Random(5), retries_so_far()
    store = fsspec.filesystem("memory")
    store.pipe_file("/source/b.tar", data)
    whole, failures = type(store).cat_file, []

    def cat_file(self, path, start=None, end=None):
        dice = luck.random()
        if dice < 0.3:
            failures.append("error")
            raise TimeoutError("no answer")
        piece = whole(self, path, start=start, end=end)
        if dice < 0.5 and len(piece) > 10:
            failures.append("short")
            return piece[: luck.randrange(len(piece))]
        return piece

    monkeypatch.setattr(type(store), "cat_file", cat_file)
    for size in (len(data), None):
        with open_stream("memory://source/b.tar", QUICK, size=size) as stream:
            assert read_in_steps(stream) == data
    assert {"error", "short"} <= set(failures)
    assert retries_so_far() - before == len(failures)


def test_an_object_shorter_than_the_index_says_is_an_error_and_a_local_file_just_ends(server, tmp_path):
    data = content(1_000)
    (tmp_path / "a.tar").write_bytes(data)
    with open_stream(str(tmp_path / "a.tar"), QUICK, size=2_000) as stream:
        assert stream.read(2_000) == data
    with open_stream(server.put("a.tar", data), QUICK, size=2_000) as stream:
        assert stream.read(1_000) == data
        with pytest.raises(DataError, match="ended at byte 1000 of 2000"):
            stream.read(1)


def test_close_in_the_middle_leaves_no_thread_and_no_descriptor(server):
    data = content(2_000_000)
    url = server.put("a.tar", data)

    def some():
        with open_stream(url, QUICK, size=len(data)) as stream:
            stream.read(1_000)

    def settled(most):
        """Sockets are closed by the event loop, a moment after close."""
        for _ in range(500):
            if len(os.listdir("/proc/self/fd")) <= most:
                return True
            threading.Event().wait(0.01)
        return False

    some()
    few = len(os.listdir("/proc/self/fd")) + 4
    for _ in range(30):
        some()
        assert not read_ahead_threads()
    assert settled(few)


def test_close_ends_the_wait_between_attempts(server):
    server.status = 503
    stream = open_stream(server.url("a.tar"), ReadOptions(wait=1_000.0))
    while not server.requests:
        threading.Event().wait(0.01)
    stream.close()
    assert not read_ahead_threads()


def test_braces_expand_in_order():
    assert expand_braces("gs://b/shard-{000008..000011}.tar") == [f"gs://b/shard-{i:06d}.tar" for i in (8, 9, 10, 11)]
    assert expand_braces("{a,b{1..2}}.tar") == ["a.tar", "b1.tar", "b2.tar"]
    assert expand_braces("a.tar") == ["a.tar"]
    with pytest.raises(ValueError):
        expand_braces("{a,b")


@pytest.mark.parametrize(
    ("folder", "name", "joined"),
    [
        ("/data/train", "a.tar", "/data/train/a.tar"),
        ("train/", "a.tar", "train/a.tar"),
        ("/", "a.tar", "/a.tar"),
        ("", "a.tar", "a.tar"),
        ("gs://b/train/", "sub/a.tar", "gs://b/train/sub/a.tar"),
        ("gs://b", "/abs/a.tar", "/abs/a.tar"),
        ("/data", "https://h/a.tar", "https://h/a.tar"),
    ],
)
def test_join_url(folder, name, joined):
    assert join_url(folder, name) == joined


def test_list_files(server, tmp_path):
    for name in ("b.tar", "a.tar", "index.json"):
        (tmp_path / name).touch()
        fsspec.filesystem("memory").pipe_file(f"/list/{name}", b"")
    assert list_files(str(tmp_path), ".tar") == [str(tmp_path / "a.tar"), str(tmp_path / "b.tar")]
    found = list_files("memory://list", ".tar")
    assert [url.rpartition("/")[2] for url in found] == ["a.tar", "b.tar"]
    assert [read_all(url, QUICK) for url in found] == [b"", b""]
    assert list_files("x-{1..2}.tar", ".tar") == ["x-1.tar", "x-2.tar"]
    for nowhere in (str(tmp_path / "no"), "memory://no-such-folder"):
        with pytest.raises(FileNotFoundError):
            list_files(nowhere, ".tar")


@pytest.mark.parametrize(
    ("url", "module", "extra"),
    [
        ("gs://b/a.tar", "gcsfs", "gcs"),
        ("s3://b/a.tar", "s3fs", "s3"),
        ("https://h/a.tar", "fsspec.implementations.http", "http"),
    ],
)
def test_a_missing_package_names_the_extra_that_brings_it(monkeypatch, url, module, extra):
    monkeypatch.delitem(sys.modules["fsspec.registry"]._registry, url.partition(":")[0], raising=False)
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ConfigError) as error:
        check_url(url, "data.val")
    (fault,) = error.value.faults
    assert fault.key == "data.val"
    assert fault.cure == f"pip install 'xlatrain[{extra}]'"
    with pytest.raises(ConfigError):
        open_stream(url, QUICK)


def test_an_unknown_scheme_says_which_are_known():
    for fine in ("/data/a.tar", "a.tar", "file:///a.tar", "http://h/a", "memory://a"):
        check_url(fine)
    with pytest.raises(ConfigError, match=r"(?s)gopher://h/a\.tar.*gs://.*s3://.*http://"):
        check_url("gopher://h/a.tar")


def cached(folder, limit=None):
    return ReadOptions(wait=0.0, read_ahead=64 * 1024, cache=str(folder), cache_bytes=limit)


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


def _read_cached(url, folder, size, ready, results):
    ready.wait()
    with open_stream(url, cached(folder), size=size) as stream:
        results.put(hash_of(stream.read(size + 1)))


def hash_of(data):
    import hashlib

    return hashlib.sha256(data).hexdigest()


def test_processes_of_a_host_download_an_object_once(server, tmp_path):
    data, size = content(1_000_000), 1_000_000
    url = server.put("a.tar", data)
    assert read_all(url, QUICK) == data  # the event loop of this process runs when the others start
    server.requests.clear()
    contexts = [multiprocessing.get_context(name) for name in ("spawn", "forkserver")]
    ready, results = contexts[0].Barrier(2), contexts[0].Queue()
    processes = [c.Process(target=_read_cached, args=(url, str(tmp_path), size, ready, results)) for c in contexts]
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


@pytest.mark.parametrize("workers", [0, 2])
def test_training_on_a_flaky_source_sees_every_image_once_through_a_thousand_breaks(server, tmp_path, workers):
    """Connections break after 1 to 300 bytes: the epoch is whole, and each break is counted, also in workers."""
    write(tmp_path, count=170, per_shard=40)
    for path in tmp_path.iterdir():
        server.put(f"data/{path.name}", path.read_bytes())
    draw, before = random.Random(3), retries_so_far()
    options = {"retry_wait": 0.0, "read_ahead_mb": 0.1, "workers": workers, "shuffle_window": 32, "retries": 20}
    config = ShardsConfig(root=server.url("data"), image_size=8, eval_padding=0, **options)
    remote_split = ShardedSplit(read_index(server.url("data")), config, AugmentConfig(name="none"), 10)
    server.cut = lambda length: k if (k := draw.randint(1, 300)) < length else None
    batches = remote_split.train_batches(Place(0, 1), 0, (Phase(0, 17, 8),), Position())
    seen = [int(i[0, 0, 0]) for _ in range(10) for i in next(batches)["images"]]
    server.cut = lambda length: None
    for batch in remote_split.eval_batches(Place(0, 1), 34):
        assert batch["mask"].all()
    batches.close()
    local = split(tmp_path).eval_batches(Place(0, 1), 170)
    assert sorted(seen) == sorted(next(local)["images"][:, 0, 0, 0].tolist())
    assert server.drops > 1000
    assert retries_so_far() - before >= 1000
