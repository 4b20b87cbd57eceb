"""Processes of a run find each other, or all learn who is missing."""

import socket
from concurrent.futures import ThreadPoolExecutor

import pytest

from xlatrain.xla.arrival import meet
from xlatrain.xla.jax_start import free_port


def gather(numbers, processes, seconds, port):
    """What each of them raises, None where nothing."""
    with ThreadPoolExecutor(len(numbers)) as pool:
        asked = [pool.submit(meet, n, processes, f"127.0.0.1:{port}", seconds) for n in numbers]
        return [str(future.exception()) if future.exception() else None for future in asked]


def test_all_come_and_the_port_is_free_again():
    port = free_port()
    assert gather([2, 0, 1], 3, 20, port) == [None] * 3
    socket.create_server(("127.0.0.1", port)).close()


def test_all_learn_who_did_not_come():
    assert gather([0, 2], 4, 0.3, free_port()) == ["processes 1, 3 of 4 did not arrive in 0.3 s"] * 2


@pytest.mark.parametrize("words", [b"GET / HTTP/1.1\r\n", b""])
def test_a_stranger_on_the_port_is_none_of_them(words):
    port = free_port()

    def stranger():
        while True:
            try:
                with socket.create_connection(("127.0.0.1", port)) as connection:
                    connection.sendall(words)
                return
            except OSError:
                continue

    with ThreadPoolExecutor(1) as pool:
        pool.submit(stranger)
        assert gather([0], 2, 0.3, port) == ["process 1 of 2 did not arrive in 0.3 s"]


def test_without_process_0_nobody_meets():
    (problem,) = gather([1], 2, 0.1, free_port())
    assert problem.startswith("process 0 of 2 did not answer")
