"""What processes say of themselves, and what is made of it: who is behind, and when a run hangs."""

import errno
import os

import pytest

from xlatrain.xla import heartbeat, pulse
from xlatrain.xla.heartbeat import (
    BUILDING,
    COMPILING,
    EVALUATING,
    SAVING,
    STEP,
    Heartbeat,
    Whereabouts,
    describe_behind,
)
from xlatrain.xla.stall import Watchdog


def beat(pid=1, **places):
    return Heartbeat("here", pid, 0.0, {int(name[1:]): place for name, place in places.items()})


def test_a_heartbeat_is_read_as_it_was_written_and_cleared_by_the_next_start(tmp_path):
    folder = tmp_path / "heartbeats"
    heartbeat.clear(folder)
    mine = heartbeat.own({1: Whereabouts(STEP, 7), 0: Whereabouts(EVALUATING, 7, 3)}, 12.5)
    heartbeat.write(folder, mine)
    heartbeat.write(folder, beat(pid=99))
    (folder / "torn.json").write_text("{")
    (folder / "here-7.json.part").write_text("{")  # of a process that was killed as it wrote
    assert heartbeat.read(folder) == [mine, beat(pid=99)]
    assert heartbeat.last_step(folder) == 7
    assert mine.is_alive
    assert beat().is_alive is None  # another machine's
    assert heartbeat.process_state(os.getpid()) in "RS"
    heartbeat.clear(folder)
    assert not any(folder.iterdir())
    assert heartbeat.last_step(folder) == 0


def test_a_full_disk_does_not_silence_a_process(tmp_path, monkeypatch):
    """Else the watchdog would end a run that trains and cannot say so."""
    first, later = (beat(r0=Whereabouts(STEP, step, since=1e9 + step)) for step in (4, 1000))
    heartbeat.write(tmp_path, first)

    def full(path, content):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(heartbeat, "write_json", full)
    heartbeat.write(tmp_path, later)
    assert heartbeat.read(tmp_path) == [later]
    with pytest.raises(OSError, match="No such file"):
        heartbeat.write(tmp_path, beat(pid=2))


@pytest.mark.parametrize(
    ("beats", "said"),
    [
        ([beat(), beat(2)], "no replica had its device yet"),
        ([beat(r0=Whereabouts(STEP, 4), r1=Whereabouts(STEP, 4))], "all 2 replicas are equally far: in step 4"),
        (
            [beat(r0=Whereabouts(STEP, 4)), beat(7, r1=Whereabouts(STEP, 3), r2=Whereabouts(STEP, 3))],
            "replicas 1, 2 (pid 7) are behind: last seen in step 3, others in step 4",
        ),
        (
            [beat(r0=Whereabouts(EVALUATING, 4, 2), r1=Whereabouts(EVALUATING, 4, 1))],
            "replica 1 (pid 1) is behind: last seen evaluating after step 4, batch 1, others evaluating after step 4, "
            "batch 2",
        ),
        ([beat(r0=Whereabouts(BUILDING), r1=Whereabouts(COMPILING, 5))],
         "replica 0 (pid 1) is behind: last seen building, others compiling after step 5"),
        ([beat(r0=Whereabouts(BUILDING), r1=Whereabouts(COMPILING))], "replica 0 is building; replica 1 is compiling"),
    ],
)  # fmt: skip
def test_who_is_behind(beats, said):
    assert describe_behind(beats) == said


def test_a_run_hangs_when_nobody_moves_for_too_long():
    dog, at = Watchdog(30, 0), Whereabouts(STEP, 4)
    assert dog.look([beat(r0=at)], 5) is None
    assert dog.look([beat(r0=at, r1=at)], 10) is None  # another one came
    assert [dog.look([beat(r0=at, r1=at)], t) for t in (19, 28, 37)] == [None, None, None]
    assert dog.look([beat(r0=at, r1=at)], 41) == 31
    assert dog.look([beat(r0=Whereabouts(STEP, 5), r1=at)], 42) is None  # one moved


def test_what_says_nothing_on_its_way_has_longer():
    dog, places = Watchdog(30, 0), [beat(r0=Whereabouts(COMPILING), r1=Whereabouts(STEP, 4))]
    assert not any(dog.look(places, t) for t in range(0, 3000, 5))
    assert any(dog.look(places, t) for t in range(3000, 3700, 5))


def test_a_process_that_is_stopped_has_not_whatever_it_said_last():
    dog, places = Watchdog(30, 0), [beat(r0=Whereabouts(COMPILING), r1=Whereabouts(STEP, 4))]
    assert not any(dog.look(places, t, frozen=True) for t in range(0, 31, 5))
    assert dog.look(places, 31, frozen=True) == 31


def test_a_watchdog_that_was_held_up_itself_lets_everybody_move_first():
    dog, places = Watchdog(30, 0), [beat(r0=Whereabouts(STEP, 4))]
    assert dog.look(places, 1) is None
    assert dog.look(places, 1000) is None


def test_none_watches_for_ever():
    dog = Watchdog(None, 0)
    assert not any(dog.look([beat(r0=Whereabouts(STEP, 4))], t) for t in range(0, 10000, 9))


def test_what_hangs_after_a_save_has_not_as_long_as_a_save():
    with pulse.saving(77, 10):
        assert pulse._places[77].phase == SAVING
    assert (pulse._places[77].phase, pulse._places.pop(77).step) == (STEP, 10)
