"""Which steps of a run are profiled."""

from __future__ import annotations

import re

from xlatrain.config.engine import EngineConfig
from xlatrain.errors import Fault
from xlatrain.words import counted

_KEY, _CURE = "engine.profile", "write STEP:COUNT with two numbers from 1 on, as in engine.profile=20:3"


def profiled_steps(engine: EngineConfig) -> range:
    """The numbers of the steps, from 1; empty where none are. Raises ValueError where it is spelt otherwise."""
    if engine.profile is None:
        return range(0)
    found = re.fullmatch(r"(\d+):(\d+)", engine.profile.strip())
    if not found or 0 in (step := int(found[1]), count := int(found[2])):
        raise ValueError(f"{engine.profile!r} is not STEP:COUNT")
    return range(step, step + count)


def profile_faults(engine: EngineConfig, total_steps: int | None) -> list[Fault]:
    """What is wrong with it. total_steps: of the run, None where they are not known."""
    try:
        steps = profiled_steps(engine)
    except ValueError as error:
        return [Fault(_KEY, str(error), _CURE)]
    if total_steps is None or not steps or steps[-1] <= total_steps:
        return []
    cure = f"take steps from 1 to {total_steps:,}" if total_steps > 1 else "lengthen train.duration"
    return [Fault(_KEY, f"step {steps[-1]:,} is past the end: the run has {counted(total_steps, 'step')}", cure)]
