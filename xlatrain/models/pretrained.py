"""timm's pretrained weights: whether they can be had, without waiting for what cannot be, and their file."""

from __future__ import annotations

import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import timm
from huggingface_hub import constants, hf_hub_download, try_to_load_from_cache

from xlatrain.errors import in_a_line
from xlatrain.files import user_cache

_FILES = ("model.safetensors", "pytorch_model.bin")
_SECONDS = 5  # for an answer; the hub's client itself tries for most of a minute


def pretrained_place(name: str) -> Path:
    """Where one may put the weights of a model of timm's oneself: NAME.TAG.safetensors, in the user's cache. Raises
    ValueError where timm has none."""
    try:
        found = timm.get_pretrained_cfg(name)
    except RuntimeError as error:
        raise ValueError(in_a_line(error)) from error
    if found is None or not found.has_weights:
        raise ValueError(f"timm has no pretrained weights of {name}")
    tag = f".{found.tag}" if found.tag else ""
    return user_cache() / "pretrained" / f"{found.architecture}{tag}.safetensors"


def fetch_pretrained(name: str) -> Path:
    """The file of a model's pretrained weights: one's own, or the hub's, from its cache on this machine or fetched now.
    Raises ValueError with the reason where there is none."""
    own = pretrained_place(name)
    if own.is_file():
        return own
    repository = timm.get_pretrained_cfg(name).hf_hub_id
    if not repository:
        raise ValueError("timm has its weights outside of the hub, and not as safetensors")
    cached = try_to_load_from_cache(repository, _FILES[0])
    if isinstance(cached, str):
        return Path(cached)
    if problem := unreachable_weights(name, {}):
        raise ValueError(problem)
    try:
        return Path(hf_hub_download(repository, _FILES[0]))
    except Exception as error:  # of the hub's client: what it raises is many things
        raise ValueError(f"{constants.ENDPOINT}/{repository}/{_FILES[0]}: {in_a_line(error)}") from error


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
