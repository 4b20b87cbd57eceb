"""Install into the environment that runs this, with uv; with pip where uv cannot be had.

    .venv/bin/python launch/install.py REQUIREMENT ...        # as pip takes them: '--editable' '.[dev]'

uv is brought as the package it is, into the same environment. It does not read pip's settings, so what a machine has
told pip of its package index, in files or PIP_ variables, is passed on to uv, except what uv was told itself. Standard
library only: it runs before anything is installed. Nothing is compiled to bytecode ahead: an import does that once for
the files it needs, which are few of those that torch brings.
"""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

UV = "uv>=0.5,<1"

# pip's setting -> uv's flag, and uv's variables that have the word before it. All but the first and last are lists.
FLAGS = {
    "index-url": ("--default-index", ["UV_DEFAULT_INDEX", "UV_INDEX_URL"]),
    "extra-index-url": ("--index", ["UV_INDEX", "UV_EXTRA_INDEX_URL"]),
    "find-links": ("--find-links", ["UV_FIND_LINKS"]),
    "trusted-host": ("--allow-insecure-host", ["UV_INSECURE_HOST"]),
    "constraint": ("--constraints", ["UV_CONSTRAINT"]),
}
SWITCHES = {"no-index": "--no-index", "no-cache-dir": "--no-cache", "pre": "--prerelease=allow"}
VARIABLES = {
    "cert": "SSL_CERT_FILE",
    "client-cert": "SSL_CLIENT_CERT",
    "proxy": "ALL_PROXY",
    "timeout": "UV_HTTP_TIMEOUT",
}


def main(requirements: list[str]) -> int:
    pip = [sys.executable, "-m", "pip"]
    uv = bring_uv(pip)
    if uv:
        settings = pip_settings(subprocess.run([*pip, "config", "list"], capture_output=True, text=True).stdout)
        flags, variables = uv_settings(settings, os.environ)
        loudness = [] if sys.stderr.isatty() else ["--quiet"]
        command = [uv, "pip", "install", "--python", sys.executable, *loudness, *flags, *requirements]
        if subprocess.run(command, env={**os.environ, **variables}).returncode == 0:
            return 0
    print("install: uv could not; pip does it, which takes longer", file=sys.stderr)
    return subprocess.run([*pip, "install", "--quiet", "--no-compile", *requirements]).returncode


def bring_uv(pip: list[str]) -> Path | None:
    """The environment's own uv, installed if it is missing. None where there is none for this machine."""
    uv = Path(sys.prefix) / "bin" / "uv"
    if not uv.exists():
        subprocess.run([*pip, "install", "--quiet", "--only-binary", "uv", UV])
    return uv if uv.exists() else None


def pip_settings(listed: str) -> dict[str, str]:
    """What `pip config list` says of installing, by name: variables before `install`'s own, those before `global`."""
    sections: dict[str, dict[str, str]] = {"global": {}, "install": {}, ":env:": {}}
    for line in listed.splitlines():
        name, _, value = line.partition("=")
        section, _, key = name.rpartition(".")
        if section in sections:
            sections[section][key.removeprefix("default-")] = ast.literal_eval(value)
    return {key: value for section in sections.values() for key, value in section.items()}


def uv_settings(settings: dict[str, str], environ: dict[str, str]) -> tuple[list[str], dict[str, str]]:
    """pip's settings as uv's flags and variables, without those that `environ` sets for uv."""
    flags = []
    for name, (flag, variables) in FLAGS.items():
        if name in settings and not any(v in environ for v in variables):
            flags += [part for value in settings[name].split() for part in (flag, value)]
    if "--index" in flags and "UV_INDEX_STRATEGY" not in environ:
        flags += ["--index-strategy", "unsafe-best-match"]  # the best of all, as pip does; uv: of the first that has it
    flags += [flag for name, flag in SWITCHES.items() if settings.get(name, "").lower() in ("1", "true", "yes", "on")]
    variables = {v: settings[name] for name, v in VARIABLES.items() if name in settings and v not in environ}
    return flags, variables


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
