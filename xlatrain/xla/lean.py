"""torch_xla imported without torch's inductor, a second of a process's start, of which it derives one class, for
torch.compile, that no run uses."""

from __future__ import annotations

import contextlib
import importlib
import sys
from collections.abc import Iterator
from types import ModuleType
from typing import Any

_MODULE = "torch._inductor.fx_passes.post_grad"


class ConstructorMoverPass:
    """Stands for the class of that name until one derived from it is made: that then derives from the real one."""

    def __init__(self, *args: Any, **named: Any):
        real = importlib.import_module(_MODULE).ConstructorMoverPass
        for derived in ConstructorMoverPass.__subclasses__():
            derived.__bases__ = (real,)
        real.__init__(self, *args, **named)


@contextlib.contextmanager
def without_inductor() -> Iterator[None]:
    """Within, torch_xla is imported."""
    if _MODULE in sys.modules:
        yield
        return
    stand_in = ModuleType(_MODULE)
    stand_in.ConstructorMoverPass = ConstructorMoverPass
    sys.modules[_MODULE] = stand_in
    try:
        yield
    finally:
        del sys.modules[_MODULE]
