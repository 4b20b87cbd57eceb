"""What must not be written down: secrets in URLs, in options named like secrets, and in the environment."""

from __future__ import annotations

import os
import re
from typing import Any

_HIDDEN = "***"
_USER = re.compile(r"(\w://)[^\s/'\"]+@")  # user:password@, a token alone too
_QUERY = re.compile(r"(\w://[^\s?'\"]*\?)[^\s'\"]+")  # signatures of links that are good for a while
_WORD = (
    r"(?:token|secret|passw(?:or)?d|passphrase|(?:api|access|secret|private|account|auth|signing|encryption)[_-]?key)"
)
_NAME = re.compile(rf"(?:^|[^a-z0-9]|(?<=[a-z0-9])_?){_WORD}(?:[_-]?id)?$", re.I)
_VALUE = r"""(?:'[^'\n]*'|"[^"\n]*"|[^\s,'"}\])&;]+)"""
# name=value, as in overrides, keyword arguments and exported variables; also name = 'value' of a line of code.
_GIVEN = re.compile(rf"(\b[\w.+-]*(?:{_WORD}|kwargs\.key)\s*=\s*)({_VALUE})", re.I)
# --token value; "token": "value", token: value of YAML, {token:value} of Hydra.
_FLAG = re.compile(rf"(--?[\w-]*{_WORD}\s+)({_VALUE})", re.I)
_ENTRY = re.compile(rf"((?:^[\s#-]*|['\"{{,]\s*)[\w.+-]*{_WORD}['\"]?\s*:\s*)({_VALUE})", re.I | re.M)
_PLAIN = re.compile(r"['\"]?(?:true|false|null|none|[-+]?[\d.]+(?:e[-+]?\d+)?|)['\"]?", re.I)  # class_token=true
# What shows by itself what it is: of Hugging Face, GitHub, Google and Slack, and of HTTP.
_SHAPES = re.compile(
    r"\b(?:hf_\w{20,}|gh[pousr]_\w{20,}|github_pat_\w{20,}|ya29\.[\w-]{20,}|AIza[\w-]{30,}|xox[abprs]-[\w-]{10,})"
    r"|(?<=Bearer )[\w.~+/=-]{8,}"
)
_SHORTEST = 8  # characters of a variable that are replaced wherever they stand; less would hide words


def masked(value: Any) -> Any:
    """The same text, or dict or list of such, with *** in place of: user, password and query of URLs; the values of
    options, arguments and keys that are named token, secret, password or some_key; tokens of known shapes; and the
    values of variables of the environment that are named so, wherever they stand. Numbers and booleans stay."""
    return _masked(value, _variables())


def is_secret_name(name: str) -> bool:
    """Whether what has this name, as data.kwargs.token, is not to be written down."""
    last = name.rpartition(".")[2]
    return last.lower() == "key" or _NAME.search(last) is not None


def _masked(value: Any, secrets: list[str]) -> Any:
    if isinstance(value, dict):
        return {
            key: _HIDDEN if isinstance(content, str) and _hides(str(key), content) else _masked(content, secrets)
            for key, content in value.items()
        }
    if isinstance(value, (list, tuple)):
        return [_masked(content, secrets) for content in value]
    return _masked_text(value, secrets) if isinstance(value, str) else value


def _hides(name: str, content: str) -> bool:
    return is_secret_name(name) and not _PLAIN.fullmatch(content)


def _masked_text(text: str, secrets: list[str]) -> str:
    for secret in secrets:
        text = text.replace(secret, _HIDDEN)
    for pattern in (_GIVEN, _FLAG, _ENTRY):
        text = pattern.sub(_without_value, text)
    return _SHAPES.sub(_HIDDEN, _QUERY.sub(r"\1***", _USER.sub(r"\1***@", text)))


def _without_value(found: re.Match[str]) -> str:
    if _PLAIN.fullmatch(found[2]) or found[2].startswith("${"):
        return found[0]
    quote = found[2][0] if found[2][0] in "'\"" else ""
    return f"{found[1]}{quote}{_HIDDEN}{quote}"


def _variables() -> list[str]:
    """The secrets of the environment, the longest first; not the paths of files that hold some."""
    found = {v for k, v in os.environ.items() if len(v) >= _SHORTEST and is_secret_name(k) and not os.path.exists(v)}
    return sorted(found, key=len, reverse=True)
