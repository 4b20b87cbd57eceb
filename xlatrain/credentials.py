"""What must not be written down: secrets in URLs, in options named like secrets, and in the environment."""

from __future__ import annotations

import os
import re
from typing import Any

_HIDDEN = "***"
# All of them bounded: what is masked may be large, and be made by somebody else.
_USER = re.compile(r"(\w://)[^\s/'\"]{1,2000}@")  # user:password@, a token alone too
_QUERY = re.compile(r"(\w://[^\s?'\"]{0,2000}\?)[^\s'\"]+")  # signatures of links that are good for a while
_WORD = (
    r"(?:token|secret|passw(?:or)?d|passphrase|(?:api|access|secret|private|account|auth|signing|encryption)[_-]?key)"
)
_NAME = re.compile(rf"{_WORD}(?:[_-]?id)?$", re.I)
_VALUE = r"""(?:'[^'\n]{0,8000}'|"[^"\n]{0,8000}"|['"]?[^\s,'"}\])&;]+)"""
_GIVEN = re.compile(
    rf"(?P<word>{_WORD}|kwargs\.key)(?P<sign>['\"]?[ \t]{{0,9}}[=:][ \t]{{0,9}}|[ \t]{{1,9}})(?P<value>{_VALUE})", re.I
)
_BEFORE = re.compile(r"[\w.+-]*$")  # the rest of a name
_ENTRY = re.compile(r"(?:^|\n)[ \t#-]*$|['\"{,][ \t]*$")  # what stands before a key of YAML, JSON or a dict
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
    text = _GIVEN.sub(_without_value, text)
    return _SHAPES.sub(_HIDDEN, _QUERY.sub(r"\1***", _USER.sub(r"\1***@", text)))


def _without_value(found: re.Match[str]) -> str:
    """name=value, as in overrides, arguments and lines of code; --name value; name: value of YAML, JSON or Hydra, where
    it is a key, and not the end of a sentence."""
    value, sign, start = found["value"], found["sign"], found.start()
    before = found.string[max(0, start - 100) : start]
    rest = _BEFORE.search(before)[0]
    if "=" in sign:
        given = True
    elif ":" in sign:
        given = sign[0] in "'\"" or _ENTRY.search(before.removesuffix(rest)) is not None
    else:
        given = rest.startswith("-")
    if not given or _PLAIN.fullmatch(value) or value.startswith("${"):
        return found[0]
    quote = value[0] if value[0] in "'\"" else ""
    return f"{found['word']}{sign}{quote}{_HIDDEN}{quote if value[-1] == quote else ''}"


def _variables() -> list[str]:
    """The secrets of the environment, the longest first; not the paths of files that hold some."""
    found = {v for k, v in os.environ.items() if len(v) >= _SHORTEST and is_secret_name(k) and not os.path.exists(v)}
    return sorted(found, key=len, reverse=True)
