"""Why a store does not let one in, and the command that mends it."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

import fsspec

from xlatrain.errors import Fault

_SIGN_IN = {
    "gs": "gcloud auth application-default login, or GOOGLE_APPLICATION_CREDENTIALS=KEY.json",
    "s3": "aws configure, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY in the environment",
}
_LIST = {"gs": "gcloud storage ls", "s3": "aws s3 ls"}
_SAME = {"gcs": "gs", "s3a": "s3"}
# What the libraries of the stores say of missing or wrong credentials. They raise types of their own for it, from
# modules that need not be installed.
_NOT_KNOWN = re.compile(
    r"credential|anonymous|unauthori[sz]ed|not authenticated|access denied|invalid_grant|forbidden|permission|"
    r"does not have .* access|(?<!byte )\b40[13]\b",
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


def missing_bucket(url: str, key: str = "data.root") -> Fault | None:
    """That the bucket of a url is not there; None where it is, where nobody may know, and of urls that have none."""
    parts = urlsplit(url)
    scheme = _SAME.get(parts.scheme, parts.scheme)
    if scheme not in _LIST:
        return None
    bucket = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"
    try:
        system, path = fsspec.url_to_fs(bucket)
        there = system.exists(path)
    except Exception:  # of any store's library, or none: then nobody may know
        return None
    return None if there else Fault(key, f"there is no bucket {bucket}", f"{_LIST[scheme]}, and name one of them")


def _causes(error: BaseException | None) -> list[BaseException]:
    """An error and what it came of, ours and those of libraries."""
    found: list[BaseException] = []
    while error is not None and error not in found:
        found.append(error)
        error = error.__cause__ or error.__context__
    return found
