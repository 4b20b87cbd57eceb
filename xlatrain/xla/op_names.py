"""Where an op comes from, by the name that torch_xla gave it when it was traced under scopes (xla/scopes.py):
`model.1/blocks.0.3/aten__convolution_overrideable.12`."""

from __future__ import annotations

import re

_COUNTER = re.compile(r"\.\d+$")
_OPERATION = re.compile(r"(?:^|/)(?:aten|xla|prim)__([^/]*)")


def scope_of(name: str) -> str:
    """The innermost of the scopes that an op was traced in, as `blocks.0`; "" where it was in none."""
    operation = _OPERATION.search(name)
    return _COUNTER.sub("", name[: operation.start()].rpartition("/")[2]) if operation else ""


def operation_of(name: str) -> str:
    """The operation of PyTorch that it is, as `convolution`; "" of one that the compiler made."""
    operation = _OPERATION.search(name)
    return _COUNTER.sub("", operation[1]).lstrip("_").removesuffix("_overrideable") if operation else ""
