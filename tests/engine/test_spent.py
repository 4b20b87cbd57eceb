"""Every moment of a run is counted once, and for what it was spent on."""

import contextlib
import json

import pytest

from xlatrain.engine.spent import COMPILE, DATA, DEVICE, EVALUATION, HOST, PLACES, SAVING, STARTING, Spent


class Clock:
    now = 100.0

    def __call__(self):
        return self.now

    def wait(self, seconds):
        self.now += seconds


@pytest.fixture
def clock():
    return Clock()


def test_what_is_within_another_counts_for_the_inner_one_and_all_adds_up(clock):
    spent = Spent(clock)
    clock.wait(5)
    spent.turn_to(HOST)
    clock.wait(1)
    with spent.on(EVALUATION):
        clock.wait(2)
        with spent.on(COMPILE):
            clock.wait(3)
        clock.wait(4)
    with contextlib.suppress(OSError), spent.on(SAVING):
        clock.wait(7)
        raise OSError
    clock.wait(1)
    found = spent.seconds()
    assert found == {STARTING: 5, COMPILE: 3, DATA: 0, DEVICE: 0, HOST: 2, EVALUATION: 6, SAVING: 7}
    assert tuple(found) == PLACES
    assert sum(found.values()) == clock.now - 100


@pytest.mark.parametrize(
    ("busy", "device", "expected"),
    [
        (False, 3, {DATA: 2, DEVICE: 3}),  # nothing ran meanwhile: the data kept the device waiting
        (True, 3, {DATA: 0, DEVICE: 5}),  # a step ran, and was still running after it: the wait cost nothing
        (True, 0, {DATA: 2, DEVICE: 0}),  # it had ended long before the batch came
    ],
)
def test_a_wait_for_data_that_hides_behind_the_device_is_the_devices_time(clock, busy, device, expected):
    spent = Spent(clock)
    with spent.waiting_for_data(busy):
        clock.wait(2)
    with spent.waiting_for_device():
        clock.wait(device)
    with spent.waiting_for_device():  # of a step that has nothing to do with it
        clock.wait(1)
    expected[DEVICE] += 1
    assert {k: spent.seconds()[k] for k in expected} == expected


def test_a_start_goes_on_from_those_before_it(clock):
    before = Spent(clock)
    clock.wait(4)
    spent = Spent(clock)
    clock.wait(1)
    spent.add(json.loads(json.dumps(before.seconds())))
    spent.add({})  # of a checkpoint that an earlier version wrote
    assert spent.seconds()[STARTING] == 6
