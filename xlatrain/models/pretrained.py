"""Whether the pretrained weights of a timm model can be had, without waiting for what cannot be."""

from __future__ import annotations

import urllib.error
import urllib.request
from collections.abc import Mapping
from typing import Any

import timm
from huggingface_hub import constants, try_to_load_from_cache

_FILES = ("model.safetensors", "pytorch_model.bin")
_SECONDS = 5  # for an answer; the hub's client itself tries for most of a minute


def unreachable_weights(name: str, arguments: Mapping[str, Any]) -> str | None:
    """Why the weights of timm.create_model(name, pretrained=True, ...) cannot be had; None if they can, or if timm is
    to say so itself. They come from the hub's cache on this machine, or from the hub."""
    try:
        found = timm.get_pretrained_cfg(name)
    except RuntimeError:
        return None  # it has no weights of that name
    if found is None or not found.hf_hub_id or {"pretrained_cfg", "pretrained_cfg_overlay"} & set(arguments):
        return None
    cached = (try_to_load_from_cache(found.hf_hub_id, f, cache_dir=arguments.get("cache_dir")) for f in _FILES)
    if any(isinstance(path, str) for path in cached):
        return None
    source = f"its weights come from {constants.ENDPOINT}/{found.hf_hub_id}"
    if constants.HF_HUB_OFFLINE:
        return f"{source}, and HF_HUB_OFFLINE is set"
    try:
        urllib.request.urlopen(urllib.request.Request(constants.ENDPOINT, method="HEAD"), timeout=_SECONDS).close()
    except urllib.error.HTTPError:
        return None  # it answers
    except OSError as error:
        return f"{source}, which cannot be reached: {getattr(error, 'reason', error)}"
    return None
