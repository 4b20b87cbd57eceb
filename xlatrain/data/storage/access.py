"""Why a store does not let one in, and the command that mends it."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

_SIGN_IN = {
    "gs": "gcloud auth application-default login, or GOOGLE_APPLICATION_CREDENTIALS=KEY.json",
    "s3": "aws configure, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY in the environment",
}
_LIST = {"gs": "gcloud storage ls", "s3": "aws s3 ls"}
_SAME = {"gcs": "gs", "s3a": "s3"}
# What the libraries of the stores say of missing or wrong credentials. They raise types of their own for it, from
# modules that need not be installed.
_NOT_KNOWN = re.compile(
    r"credential|anonymous|unauthori[sz]ed|not authenticated|access denied|invalid_grant|\b40[13]\b|forbidden|"
    r"permission|does not have .* access",
    re.I,
)


def is_denied(error: BaseException) -> bool:
    """Whether a store refused for who asks, not for what is asked."""
    return any(isinstance(e, PermissionError) or _NOT_KNOWN.search(f"{type(e).__name__} {e}") for e in _causes(error))


def access_cure(url: str, error: BaseException) -> str:
    """The command that helps where a url cannot be read or written."""
    parts = urlsplit(url)
    scheme = _SAME.get(parts.scheme, parts.scheme)
    if not scheme or scheme == "file":
        return f"ls -l {url}"
    if is_denied(error):
        return _SIGN_IN.get(scheme, "give who may read it in the URL, as in https://USER:PASSWORD@HOST/...")
    if scheme in _LIST:
        return f"{_LIST[scheme]} {scheme}://{parts.netloc}"
    return f"curl -I {url}"


def _causes(error: BaseException | None) -> list[BaseException]:
    """An error and what it came of, ours and those of libraries."""
    found: list[BaseException] = []
    while error is not None and error not in found:
        found.append(error)
        error = error.__cause__ or error.__context__
    return found
