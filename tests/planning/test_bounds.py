"""Network times and bounds are the known ones."""

import math

import pytest

from xlatrain.config.compose import compose_config
from xlatrain.planning.bounds import Product, lower_bound
from xlatrain.planning.network import Collective, collective_ms, group_axes


def cluster(*overrides):
    return compose_config(list(overrides))[0].cluster


@pytest.mark.slow
def test_network_times_follow_the_alpha_beta_model():
    pod = cluster("cluster=tpu_v3_2048", "cluster.chip.hop_us=0", "cluster.chip.hbm_gb_per_s=1e9")
    size = 40_000_000
    found = collective_ms(Collective("all-reduce", size, 2048, 1), pod)
    # Each of 1,024 chips sends 2 · (n - 1) / n of the bytes over its four links.
    assert found == pytest.approx(2 * size * 1023 / 1024 / (4 * 82e9) * 1e3, rel=1e-6)
    open_ended = cluster("cluster=tpu_v3_128", "cluster.chip.hop_us=0", "cluster.chip.hbm_gb_per_s=1e9")
    half = collective_ms(Collective("all-reduce", size, 128, 1), open_ended)
    assert half == pytest.approx(2 * size * 63 / 64 / (2 * 82e9) * 1e3, rel=1e-6)
    # Latency alone: along each axis to the farthest chip and back, 16 + 16 hops on the closed torus, there and back.
    pod = cluster("cluster=tpu_v3_2048", "cluster.chip.hop_us=2")
    assert collective_ms(Collective("all-reduce", 0, 2048, 3), pod) == pytest.approx(3 * 2 * 32 * 2e-3)
    assert collective_ms(Collective("all-gather", 0, 4, 1), pod) == pytest.approx(1 * 2e-3)  # two chips
    assert collective_ms(Collective("all-gather", 0, 2, 1), pod) == 0.0  # one chip
    # A group of 64 chips on 32 x 32 is a box of 2 x 32, closed along 32; one of 4 chips a line, three hops long.
    assert group_axes(64, pod) == [(32, True), (2, False)]
    assert group_axes(4, pod) == [(4, False)]
    assert group_axes(4 * 3, pod) == [(4, False), (3, False)]
    assert collective_ms(Collective("all-gather", 0, 8, 1), pod) == pytest.approx(3 * 2e-3)
    line = cluster("cluster=tpu_v3_2048", "cluster.chip.hop_us=0", "cluster.chip.hbm_gb_per_s=1e9")
    assert collective_ms(Collective("all-gather", size, 8, 1), line) == pytest.approx(size * 3 / 4 / 82e9 * 1e3)
    assert collective_ms(Collective("all-reduce", 8, 8, 1), cluster("cluster=cpu")) is None


def test_communication_bounds_are_the_known_ones_of_products():
    memory = 2.0**20
    n = 2**14
    assert lower_bound(n, n, n, memory) == pytest.approx(n**3 / math.sqrt(memory))  # Hong and Kung's p·c·k / sqrt(M)
    assert lower_bound(2**24, 2**4, 2**12, memory) == pytest.approx(2**24 * 2**12 + 2**24 * 2**4 + 2**16)  # result once
    assert lower_bound(100, 10, 10, memory) == 100 * 10 + 10 * 10 + 100 * 10  # all fits: each value once
    for p, c, k in ((3, 5, 7), (2**20, 96, 16), (540_800, 16, 96), (2**15, 2**15, 1)):
        assert lower_bound(p, c, k, memory) >= p * c + c * k + p * k
    assert Product("", "", 100, 10, 10, 0, value_bytes=4).bound(4e6) == 4 * 2100
