"""A profile of steps of a run, for TensorBoard's profiler or Perfetto, and the dearest ops by module as a table."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

from xlatrain.engine.run_folder import OPS, PROFILE
from xlatrain.errors import in_a_line
from xlatrain.files import write_json
from xlatrain.words import counted
from xlatrain.xla.replica import Replica
from xlatrain.xla.xspace import Op, read_ops

_SHOWN, _KEPT = 10, 100


class Profiler:
    """Of one replica; the first one captures, of its process, and writes. steps: their numbers, from 1. All replicas
    have to come to each call: while the first one writes, the others wait. A profile that fails is said, and left out.
    """

    def __init__(self, replica: Replica, steps: range, folder: Path, keep: Callable[[str], None]):
        self._replica, self._steps, self._folder, self._keep = replica, steps, folder / PROFILE, keep
        self._open: contextlib.ExitStack | None = None
        self._first, self._failed = 0, False

    def begins(self, number: int) -> bool:
        """Whether a step is the first to be captured."""
        return bool(self._steps) and number == self._steps[0]

    def begin(self, number: int) -> None:
        """Before a step, when all before it have run."""
        self._open, self._first = contextlib.ExitStack(), number
        self._replica.barrier()
        if self._replica.is_first:
            with self._told():
                self._open.enter_context(self._replica.profiled(self._folder))
        self._replica.barrier()

    def ends(self, done: int) -> bool:
        """Whether a step is the last one, and the capture has begun."""
        return self._open is not None and done == self._steps[-1]

    @property
    def is_open(self) -> bool:
        return self._open is not None

    def end(self, done: int) -> None:
        """After a step, when it has run: write the profile and its table."""
        captured, self._open = self._open, None
        if self._replica.is_first:
            with self._told():
                captured.close()
                if not self._failed:
                    self._write(range(self._first, done + 1))
        self._replica.barrier()

    def _write(self, steps: range) -> None:
        path = max(self._folder.glob("plugins/profile/*/*.xplane.pb"), key=lambda p: p.stat().st_mtime)
        ops = read_ops(path)
        parts = len(steps) * self._replica.local_count
        table = {
            "first_step": steps[0],
            "last_step": steps[-1],
            "replicas": self._replica.local_count,
            "ms_per_step": sum(op.ms for op in ops) / parts,
            "ops": [{**asdict(op), "ms": op.ms / parts, "calls": op.calls / parts} for op in ops[:_KEPT]],
        }
        write_json(self._folder / OPS, table)
        which = f"step {steps[0]}" if len(steps) == 1 else f"steps {steps[0]} to {steps[-1]}"
        where = f"{self._folder.name}/{path.relative_to(self._folder)}"
        self._keep(f"profile of {which} in {where}; of {counted(len(ops), 'op')}, a step of a replica:")
        for line in shown(ops, parts):
            self._keep(line)

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        """Within, what goes wrong is said, and the run goes on."""
        try:
            yield
        except Exception as error:  # of whatever library
            self._failed = True
            self._keep(f"warning: no profile: {in_a_line(error)}")


def shown(ops: Sequence[Op], parts: int) -> list[str]:
    """The dearest ops as lines of a table. parts: steps x replicas that their times are of."""
    total = sum(op.ms for op in ops) or 1.0
    rows = [(op.scope or "(compiler)", op.operation, f"{op.ms / parts:.3f}", f"{op.ms / total:.1%}") for op in ops]
    rows = [("module", "op", "ms", "share"), *rows[:_SHOWN]]
    wide = [max(len(row[i]) for row in rows) for i in range(4)]
    return [f"  {m:{wide[0]}}  {o:{wide[1]}}  {ms:>{wide[2]}}  {share:>{wide[3]}}" for m, o, ms, share in rows]
