"""The processes of a run find each other before JAX's coordinator is started, which aborts when one does not come and
does not say which."""

from __future__ import annotations

import contextlib
import socket
import time


def meet(number: int, processes: int, address: str, seconds: float) -> None:
    """Wait for all processes of a run, as the one of that number. address: host:port, on which process 0 listens, and
    no longer when this returns. Raises TimeoutError that names who did not come."""
    deadline = time.monotonic() + seconds
    host, _, port = address.rpartition(":")
    try:
        if number == 0:
            missing = _gather(processes, host, int(port), deadline)
        else:
            missing = _call(number, host, int(port), deadline)
    except OSError as error:
        raise TimeoutError(f"process 0 of {processes} did not answer at {address} in {seconds:g} s: {error}") from error
    if missing:
        raise TimeoutError(f"{missing} of {processes} did not arrive in {seconds:g} s")


def _gather(processes: int, host: str, port: int, deadline: float) -> str:
    """As process 0: who is missing, in words, as it was told to those that came."""
    came: dict[int, socket.socket] = {}
    with contextlib.ExitStack() as stack:
        local = host.startswith("127.") or host == "localhost"
        server = stack.enter_context(socket.create_server(("127.0.0.1" if local else "", port)))
        while len(came) < processes - 1 and (left := deadline - time.monotonic()) > 0:
            server.settimeout(left)
            with contextlib.suppress(TimeoutError, ValueError):  # whoever else calls says no number
                connection = stack.enter_context(server.accept()[0])
                connection.settimeout(5)
                came[int(connection.makefile().readline())] = connection
            came = {number: connection for number, connection in came.items() if 0 < number < processes}
        absent = sorted(set(range(1, processes)) - came.keys())
        missing = f"{'process' if len(absent) == 1 else 'processes'} {', '.join(map(str, absent))}" if absent else ""
        for connection in came.values():
            connection.sendall(f"{missing}\n".encode())
        for connection in came.values():  # who hangs up first keeps the port busy for a minute: not this one
            with contextlib.suppress(OSError):
                connection.recv(1)
    return missing


def _call(number: int, host: str, port: int, deadline: float) -> str:
    """As another process: what process 0 says of who is missing."""
    while True:
        try:
            connection = socket.create_connection((host, port), timeout=5)
            break
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)
    with connection:
        connection.sendall(f"{number}\n".encode())
        connection.settimeout(max(1.0, deadline - time.monotonic()) + 10)
        answer = connection.makefile().readline()
    if not answer:
        raise OSError("it hung up")
    return answer.strip()
