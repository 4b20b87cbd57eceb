"""Failures on purpose, to see what comes of them."""

from __future__ import annotations

import threading

from xlatrain.config.schema import EngineConfig


def rehearse(engine: EngineConfig, ordinal: int, step: int) -> None:
    """Before a step (from 0) of a replica: fail, if the options say so."""
    if (engine.fail_replica, engine.fail_step) != (ordinal, step):
        return
    if engine.fail_how == "hang":
        threading.Event().wait()
    what = f"engine.fail_replica={engine.fail_replica} engine.fail_step={engine.fail_step}"
    raise RuntimeError(f"rehearsed failure: {what}")
