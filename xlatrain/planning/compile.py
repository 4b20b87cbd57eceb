"""Compile a step for a slice in a child process, once: results are kept by a hash of all that went in."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import importlib.util
import json
import math
import signal
import subprocess
import sys
import tempfile
import threading
import time
import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from xlatrain.config.cluster import ClusterConfig
from xlatrain.errors import ConfigError, Fault, ReplicaError
from xlatrain.files import user_cache, using, write_json
from xlatrain.planning.estimate import Memory, Step
from xlatrain.planning.hlo import parse_module
from xlatrain.planning.program import read_program
from xlatrain.words import counted

INSTALL = "pip install 'xlatrain[plan]'"
_COMPILER = "libtpu-0.0.21"  # part of the key: another compiler, another result
CHIPS = ("v2", "v3", "v4", "v5e", "v5p", "v6e")
# Chips whose two cores work as one device, which libtpu has to be told.
_MEGACORE = ("v4", "v5p")


def check_compiler() -> None:
    """See that the TPU compiler is installed. Raises ConfigError with the command that installs it."""
    absent = [name for name in ("jax", "jaxlib", "libtpu") if importlib.util.find_spec(name) is None]
    if absent:
        raise ConfigError(Fault("xlatrain plan", f"needs the TPU compiler; {', '.join(absent)} not installed", INSTALL))


def compile_step(
    hlo: bytes, aliases: Mapping[int, int], cluster: ClusterConfig, name: str, say: Callable[[str], None]
) -> Step:
    """Compile a program for a cluster and read the result. say: told what happens, and every 15 s that it goes on.
    Raises ReplicaError with the compiler's words if it fails for another reason than memory."""
    request = {
        "replicas": cluster.replicas,
        "topology": f"{cluster.chip.name}:{'x'.join(map(str, cluster.topology))}",
        "options": _options(cluster),
        "aliases": {str(k): v for k, v in aliases.items()},
    }
    key = hashlib.sha256(hlo + json.dumps([request, _COMPILER], sort_keys=True).encode()).hexdigest()[:32]
    kept = user_cache() / "plan" / key
    with using(kept.parent):
        if (step := _kept(kept, cluster.replicas)) is not None:
            say(f"{name}: compiled before, taken from {kept}")
            return step
        _compile(hlo, request, kept, name, say)
        return _kept(kept, cluster.replicas)


def _kept(kept: Path, replicas: int) -> Step | None:
    """What a folder of the cache says; None where it says nothing, or is damaged."""
    try:
        return _read(kept, replicas)
    except (OSError, ValueError, KeyError, EOFError, zlib.error):
        return None


def _read(kept: Path, replicas: int) -> Step:
    result = json.loads((kept / "result.json").read_text())
    if not result["fits"]:
        return Step(False, None, result["hbm_bytes"], None, result["seconds"])
    memory = Memory(
        result["argument_bytes"],
        result["output_bytes"],
        result["aliased_bytes"],
        result["temporary_bytes"],
        result["code_bytes"],
    )
    text = gzip.decompress((kept / "optimised.hlo.gz").read_bytes()).decode()
    return Step(True, memory, memory.total, read_program(parse_module(text), replicas), result["seconds"])


def _options(cluster: ClusterConfig) -> dict[str, Any]:
    """What libtpu has to be told of a slice beside its topology."""
    options: dict[str, Any] = {"chip_config_name": "megacore"} if cluster.chip.name in _MEGACORE else {}
    return options | ({"chips_per_host_bounds": [1, 1, 1]} if math.prod(cluster.topology) == 1 else {})


def _compile(hlo: bytes, request: dict, kept: Path, name: str, say: Callable[[str], None]) -> None:
    """Run the compiler on a folder of its own; the folder takes its place in the cache whole."""
    started = time.perf_counter()
    say(f"{name}: compiling for {counted(request['replicas'], 'replica')} of {request['topology']}")
    with tempfile.TemporaryDirectory(dir=kept.parent, prefix="draft-") as draft:
        folder = Path(draft)
        (folder / "program.pb").write_bytes(hlo)
        write_json(folder / "request.json", request)
        with (folder / "log").open("wb") as log:
            child = subprocess.Popen(
                [sys.executable, "-m", "xlatrain.planning.tpu_compiler", str(folder)], stdout=log, stderr=log
            )
            try:
                with _ticking(lambda: say(f"{name}: still compiling, {time.perf_counter() - started:.0f} s")):
                    code = child.wait()
            finally:
                child.kill()
        if code or not (folder / "result.json").exists():
            words = (folder / "log").read_text(errors="replace").strip()[-3000:]
            if code < 0:
                words += f"\nit was ended by {signal.Signals(-code).name}; the host may be short of memory"
            raise ReplicaError(f"the TPU compiler failed on the {name} (exit code {code}):\n{words}")
        result = json.loads((folder / "result.json").read_text())
        result["seconds"] = round(time.perf_counter() - started, 1)
        text = folder / "optimised.hlo"
        if text.exists():
            (folder / "optimised.hlo.gz").write_bytes(gzip.compress(text.read_bytes(), 5))
            text.unlink()
        (folder / "program.pb").unlink()
        write_json(folder / "result.json", result)
        kept.mkdir(exist_ok=True)
        for path in sorted(folder.iterdir(), key=lambda p: p.name == "result.json"):  # the last to appear
            path.replace(kept / path.name)
    say(f"{name}: compiled in {result['seconds']:.0f} s" if result["fits"] else f"{name}: does not fit")


@contextlib.contextmanager
def _ticking(tick: Callable[[], None]) -> Iterator[None]:
    """Call something every 15 s while a block runs."""
    done = threading.Event()

    def run() -> None:
        while not done.wait(15):
            tick()

    threading.Thread(target=run, daemon=True).start()
    try:
        yield
    finally:
        done.set()
