"""Where the checkpoints of a run lie. A file of its own, since run_folder.py is read by what starts in an instant."""

from __future__ import annotations

from pathlib import Path

from xlatrain.checkpoint.store import Store, open_store
from xlatrain.config.schema import Config
from xlatrain.engine.run_folder import name_in
from xlatrain.preflight.space import checkpoint_place


def checkpoint_store(config: Config, folder: Path) -> Store:
    """Where the checkpoints of the run in a folder lie."""
    return open_store(checkpoint_place(config, name_in(config.run.root, folder)))
