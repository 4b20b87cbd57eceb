"""A stream of a remote object gives every byte once and in order, whatever happens to its connections."""

import logging
import os
import random
import re
import sys
import threading

import fsspec
import pytest

from tests.data.http_server import serve
from tests.data.storage.reading import QUICK, content, read_ahead_threads, read_in_steps
from xlatrain.data.storage import remote, retry
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


@pytest.mark.slow
@pytest.mark.parametrize("known", [True, False])
def test_a_thousand_broken_connections_lose_nothing_and_repeat_nothing(server, known):
    data, lengths, before = content(2_200_000), random.Random(2), retries_so_far()
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
