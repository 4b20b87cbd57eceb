"""Whether machines of a run will find each other."""

from __future__ import annotations

import socket
from collections.abc import Iterator

from xlatrain.config.schema import Config
from xlatrain.doctor.finding import FAILED, OK, UNKNOWN, Finding, Machine, failed
from xlatrain.preflight.hosts import host_faults, with_hosts


def check_coordinator(machine: Machine, config: Config) -> Iterator[Finding]:
    """The name of machine 0, from the options or from what started the command, and on machine 0 its port."""
    cluster = with_hosts(config.cluster)
    if cluster.coordinator is None and (cluster.hosts or 1) == 1:
        yield Finding(UNKNOWN, "not asked: one machine, or TPU VMs, which find each other by the metadata server")
        return
    if faults := host_faults(cluster):
        yield from map(failed, faults)
        return
    host, _, port = (cluster.coordinator or "").rpartition(":")
    if not host or not port.isdigit():
        text = f"cluster.coordinator: {cluster.coordinator!r} is no host:port"
        yield Finding(FAILED, text, "cluster.coordinator=HOST:8476")
        return
    try:
        address = socket.getaddrinfo(host.strip("[]"), int(port), type=socket.SOCK_STREAM)[0][4]
    except (OSError, OverflowError) as error:
        text = f"{host} does not resolve: {error}"
        yield Finding(FAILED, text, f"getent hosts {host}; or its address: cluster.coordinator=ADDRESS:{port}")
        return
    if cluster.host == 0 and (problem := _taken(address)):
        yield Finding(FAILED, f"{cluster.coordinator}: {problem}", f"ss -ltnp 'sport = :{port}'")
    else:
        yield Finding(OK, f"{host} is {address[0]}")


def late_coordinator(config: Config) -> str:
    """The command that shows why its name is not resolved in time."""
    return f"getent hosts {(with_hosts(config.cluster).coordinator or 'HOST:').rpartition(':')[0]}"


def _taken(address: tuple) -> str:
    """Why this machine, the coordinator, cannot listen there; nothing if it can."""
    with socket.socket(socket.AF_INET6 if len(address) == 4 else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(address)
        except OSError as error:
            return f"machine 0, which this is, cannot listen there: {error}"
    return ""
