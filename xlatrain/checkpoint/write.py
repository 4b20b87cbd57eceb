"""A checkpoint written, its manifest last. Those of before that it makes superfluous go in background.py."""

from __future__ import annotations

from typing import Any

from xlatrain.checkpoint.manifest import MANIFEST, TENSORS, Manifest, name_of
from xlatrain.checkpoint.store import Store
from xlatrain.checkpoint.tensors import Tensors, write_tensors


def write_checkpoint(store: Store, step: int, tensors: Tensors, facts: dict[str, Any]) -> Manifest:
    """Write the checkpoint of a step. tensors: on the host; emptied on the way. facts: fit for JSON. Raises OSError;
    nothing that was there before is touched then."""
    with store.draft(name_of(step)) as draft:
        with draft.open(TENSORS) as file:
            size, digest = write_tensors(file, tensors)
        manifest = Manifest(step, size, digest, facts)
        with draft.open(MANIFEST) as file:
            file.write(manifest.to_json())
    return manifest
