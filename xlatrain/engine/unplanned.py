"""What costs a run dearly and shows nowhere: compiles of what is no captured step, and reads of device tensors that no
part of the run asked for. Counted by the runtime, compared with what was planned now and then."""

from __future__ import annotations

from collections.abc import Callable

from xlatrain.errors import CaptureError
from xlatrain.words import counted
from xlatrain.xla.replica import Replica

_WHERE = (
    "somewhere a device tensor is used outside of the captured steps, as by .item(), print(tensor) or arithmetic in "
    "code of your own"
)


class Unplanned:
    """strict: raise, do not warn. warn: told once of each kind."""

    def __init__(self, replica: Replica, strict: bool, warn: Callable[[str], None]):
        self._replica, self._strict, self._warn = replica, strict, warn
        self._seen = replica.unplanned()
        self._told: set[str] = set()

    def look(self, step: int) -> None:
        """After so many steps. Raises CaptureError."""
        now = self._replica.unplanned()
        before, self._seen = self._seen, now
        for noun, old, new in zip(("compile", "device read"), before, now, strict=True):
            if new <= old or noun in self._told:
                continue
            self._told.add(noun)
            text = f"unplanned: {counted(new - old, noun)} up to step {step:,}: {_WHERE}"
            if self._strict:
                raise CaptureError(f"{text}. engine.strict=false only warns")
            self._warn(f"warning: {text}")
