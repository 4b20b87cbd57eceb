"""Which checkpoints stay, and saving beside training."""

import math
import os
import threading

import pytest

from tests.checkpoint.states import FACTS, state
from xlatrain.checkpoint.background import Saver
from xlatrain.checkpoint.keep import Kept, Rule, superfluous
from xlatrain.checkpoint.manifest import name_of
from xlatrain.checkpoint.store import LocalStore


def kept(step, top1=None, loss=0.0, for_good=False):
    return Kept(step, for_good, None if top1 is None else {"top1": top1, "loss": loss})


@pytest.mark.parametrize(
    ("standing", "rule", "gone"),
    [
        ([], Rule(2), []),
        ([kept(1), kept(2)], Rule(2), []),
        ([kept(3), kept(1), kept(2)], Rule(2), [1]),
        ([kept(1, for_good=True), kept(2), kept(3)], Rule(1), [2]),
        ([kept(1, 0.9), kept(2, 0.5), kept(3, 0.6)], Rule(1, "top1"), [2]),
        ([kept(1, 0.9), kept(2, 0.9), kept(3, 0.6)], Rule(1, "top1"), [1]),  # of equal ones the latest
        ([kept(1, 0.9, 2.0), kept(2, 0.5, 0.1), kept(3, 0.6, 1.0)], Rule(1, "loss"), [1]),
        ([kept(1, 0.9, math.nan), kept(2, 0.5, 3.0), kept(3)], Rule(1, "loss"), [1]),
        ([kept(1), kept(2)], Rule(1, "loss"), [1]),
    ],
)
def test_what_may_go(standing, rule, gone):
    assert superfluous(standing, rule) == gone


@pytest.fixture
def saver(tmp_path):
    said, warned = [], []
    found = Saver(LocalStore(tmp_path / "c"), Rule(2, "top1"), said.append, warned.append)
    found.said, found.warned = said, warned
    return found


def save(saver, step, top1=None, before=lambda: None):
    tensors = state(step)
    saver.save(step, tensors, {**FACTS, "metrics": top1 and {"top1": top1, "loss": 1.0}}, before)
    return tensors


def test_the_old_one_goes_when_the_new_one_stands(saver):
    for step, top1 in ((1, 0.5), (2, 0.9), (3, None), (4, 0.6), (5, 0.7)):
        assert save(saver, step, top1) is not None
        assert saver.finish()
    assert saver.store.names() == [name_of(2), name_of(4), name_of(5)]
    assert saver.known == {2, 4, 5}
    assert (saver.saved, saver.failed, len(saver.said), saver.warned) == (5, 0, 5, [])


def test_training_goes_on_while_one_is_written_and_its_memory_is_let_go_of(saver):
    release = threading.Event()
    tensors = save(saver, 1, before=release.wait)
    assert saver.busy
    assert not saver.finish(0.01)
    release.set()
    assert saver.finish()
    assert tensors == {}


def test_a_save_that_fails_is_told_and_the_next_tries_again(saver, monkeypatch):
    save(saver, 1)
    saver.finish()
    os.rename(saver.store.folder, saver.store.folder.with_name("away"))
    saver.store.folder.write_text("a file where the folder was")
    tensors = save(saver, 2)
    assert not saver.finish()
    (warning,) = saver.warned
    assert "checkpoint of step 2 could not be saved" in warning
    assert str(saver.store.folder) in warning
    assert "checkpoint.folder=" in warning
    assert tensors == {}
    saver.store.folder.unlink()
    os.rename(saver.store.folder.with_name("away"), saver.store.folder)
    save(saver, 3)
    assert saver.finish()
    assert saver.store.names() == [name_of(1), name_of(3)]


def test_one_that_was_passed_over_counts_for_nothing_and_stays(saver):
    """A run that went on from step 2, since 9 is damaged, must not keep 9 in the place of a sound one."""
    for step in (1, 2, 9):
        save(saver, step)
        saver.finish()
    saver.known = {1, 2}
    for step in (3, 4):
        save(saver, step)
        saver.finish()
    assert saver.store.names() == [name_of(3), name_of(4), name_of(9)]
