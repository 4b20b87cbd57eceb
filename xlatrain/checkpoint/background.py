"""Checkpoints saved by a thread of their own, while training goes on."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from xlatrain.checkpoint.keep import Kept, Rule, superfluous
from xlatrain.checkpoint.manifest import DamagedError, Manifest, name_of, number, step_of
from xlatrain.checkpoint.read import read_manifest
from xlatrain.checkpoint.store import Store
from xlatrain.checkpoint.tensors import Tensors
from xlatrain.checkpoint.write import write_checkpoint


@dataclass
class Saver:
    """Saves one checkpoint at a time. A save that fails is told loudly and hurts nothing: the next tries again.

    say: told of what was saved; warn: of what was not. known: steps of the sound ones that stand. saved, failed,
    seconds: how often, and how long writing took in all. stood: whether the last one does.
    """

    store: Store
    rule: Rule
    say: Callable[[str], None]
    warn: Callable[[str], None]
    known: set[int] = field(default_factory=set)
    saved: int = 0
    failed: int = 0
    seconds: float = 0.0
    stood: bool = True
    _thread: threading.Thread | None = None

    @property
    def busy(self) -> bool:
        return self._thread is not None and self._thread.is_alive()

    def save(self, step: int, tensors: Tensors, facts: dict[str, Any], before: Callable[[], None]) -> None:
        """Begin to save; waits for the one before. tensors: on the host, given away. before: done first, by the thread
        that writes."""
        self.finish()
        self._thread = threading.Thread(
            target=self._save, args=(step, tensors, facts, before), daemon=True, name="checkpoint"
        )
        self._thread.start()

    def finish(self, most: float | None = None) -> bool:
        """Wait until all is saved, at most so many seconds. Returns whether the last one stands."""
        if self._thread is not None:
            self._thread.join(most)
        return self.stood and not self.busy

    def _save(self, step: int, tensors: Tensors, facts: dict[str, Any], before: Callable[[], None]) -> None:
        started = time.perf_counter()
        try:
            before()
            manifest = write_checkpoint(self.store, step, tensors, facts)
        except Exception as error:  # the libraries of stores raise what they like, and training must not end of it
            self.failed, self.stood = self.failed + 1, False
            self.warn(
                f"warning: the checkpoint of step {step:,} could not be saved in {self.store.place}: {error}. Training "
                "goes on, those saved before are untouched, and the next is tried in its turn. Make room or make the "
                "folder writable there; another folder: checkpoint.folder=..."
            )
            return
        finally:
            tensors.clear()
        seconds = time.perf_counter() - started
        self.known.add(step)
        self.saved, self.stood, self.seconds = self.saved + 1, True, self.seconds + seconds
        self.say(f"saved {manifest.name}, {manifest.bytes / 1e6:,.1f} MB in {seconds:.2f} s")
        self._remove_superfluous(step)

    def _remove_superfluous(self, newest: int) -> None:
        """Only now, with the new one in place. Those that are damaged count for nothing, and stay for who wants to look
        at them."""
        try:
            standing = [self._kept(name) for name in self.store.names() if step_of(name) in self.known]
            for step in superfluous([kept for kept in standing if kept], self.rule):
                self.store.remove(name_of(step))
                self.known.discard(step)
        except OSError as error:
            self.warn(f"warning: a checkpoint that is not needed any more stays in {self.store.place}: {error}")

    def _kept(self, name: str) -> Kept | None:
        try:
            return kept(read_manifest(self.store, name))
        except DamagedError:
            return None


def kept(manifest: Manifest) -> Kept:
    """What is to be known of a checkpoint to decide whether it stays."""
    metrics = manifest.facts.get("metrics")
    values = {name: number(value) for name, value in metrics.items()} if metrics else None
    return Kept(manifest.step, bool(manifest.facts.get("for_good")), values)
