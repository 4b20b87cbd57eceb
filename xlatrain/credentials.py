"""What must not be written down: the secrets that URLs carry."""

from __future__ import annotations

import re
from typing import Any

_USER = re.compile(r"(\w://)[^\s/'\"]+@")  # user:password@, a token alone too
_QUERY = re.compile(r"(\w://[^\s?'\"]*\?)[^\s'\"]+")  # signatures of links that are good for a while


def masked(value: Any) -> Any:
    """The same text, or dict or list of such, with the user, password and query of every URL replaced by ***."""
    if isinstance(value, dict):
        return {key: masked(content) for key, content in value.items()}
    if isinstance(value, (list, tuple)):
        return [masked(content) for content in value]
    if isinstance(value, str):
        return _QUERY.sub(r"\1***", _USER.sub(r"\1***@", value))
    return value
