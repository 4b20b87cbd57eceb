"""A bundle read back and checked: every file whole, every argument there."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load

from xlatrain.bundle.manifest import BATCH, FORMAT, IN_FILE, MANIFEST, SEED, SEEDS, VERSION, Manifest, Step
from xlatrain.engine.weights import sha256
from xlatrain.errors import ConfigError, DataError, Fault, in_a_line

_MOST = 64 << 20  # bytes of a manifest; that of EfficientNet-B7 has less than one of them
Arrays = dict[str, np.ndarray]


@dataclass(frozen=True)
class Bundle:
    """programs: StableHLO by the name of the step, "train", "eval" and, where not all replicas share those of batch
    norm, "statistics", which makes them equal before an evaluation. tensors: what each step is first given, by the
    names of its arguments, and for the train step `seeds` int64 [replicas]."""

    manifest: Manifest
    programs: dict[str, bytes]
    tensors: dict[str, Arrays]

    def weights(self, state: Arrays) -> Arrays:
        """The tensors of the model by the names of timm, of what one replica's train step carries: as in
        weights.safetensors, the moving average's where one is kept. state: by name, as in tensors["train"]."""
        known, found = self.tensors["train"] | state, {}
        for weight in self.manifest.weights:
            count = math.prod(weight.shape)
            values = known[weight.of].reshape(-1)[weight.start : weight.start + count].reshape(weight.shape)
            found[weight.name] = values.transpose(weight.axes or range(values.ndim)).copy()
        return found


def read_bundle(folder: str | Path) -> Bundle:
    """Read a bundle of `xlatrain export step` and check it: format, checksums, names, shapes and dtypes. Raises
    ConfigError where there is none, or one of another format, and DataError naming what in it is damaged."""
    folder = Path(folder)
    manifest = _read_manifest(folder)
    for name, digest in manifest.files.items():
        path = folder / name
        if name != Path(name).name or path.is_symlink():
            raise DataError(f"bundle {folder}: {name!r} is no file of its folder")
        if not path.is_file():
            raise DataError(f"bundle {folder}: {name} is missing")
        if (found := sha256(path)) != digest:
            raise DataError(f"bundle {folder}: {name} has SHA-256 {found}, the manifest says {digest}")
    programs, tensors = {}, {}
    for name, step in manifest.steps.items():
        programs[name] = _content(folder, manifest, step.program)
        try:
            tensors[name] = load(_content(folder, manifest, step.tensors)) if step.tensors else {}
        except SafetensorError as error:
            raise DataError(f"bundle {folder}: {step.tensors}: {in_a_line(error)}") from None
        if problem := _problem(manifest, step, tensors[name]):
            raise DataError(f"bundle {folder}: {name} step: {problem}")
    return Bundle(manifest, programs, tensors)


def _read_manifest(folder: Path) -> Manifest:
    cure = "name a folder that `xlatrain export step out=FOLDER` wrote"
    path = folder / MANIFEST
    if not path.is_file():
        raise ConfigError(Fault("bundle", f"there is no {path}", cure))
    try:
        if path.stat().st_size > _MOST:
            raise ValueError(f"it is larger than {_MOST:,} bytes")
        content = json.loads(path.read_text())
    except (ValueError, RecursionError) as error:
        raise DataError(f"bundle {folder}: {MANIFEST}: {in_a_line(error)}") from None
    kind, version = (content.get(key) if isinstance(content, dict) else None for key in ("format", "version"))
    if kind != FORMAT:
        raise ConfigError(Fault("bundle", f"{path} is not of an {FORMAT}", cure))
    if version != VERSION:
        problem = f"{folder} is of version {version}, this xlatrain reads {VERSION}"
        raise ConfigError(Fault("bundle", problem, "export it again, or take the xlatrain that wrote it"))
    try:
        return Manifest.of(content)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise DataError(f"bundle {folder}: {MANIFEST} lacks or misnames something: {in_a_line(error)}") from None


def _content(folder: Path, manifest: Manifest, name: str) -> bytes:
    """A file that the manifest has the checksum of."""
    if name not in manifest.files:
        raise DataError(f"bundle {folder}: {MANIFEST} has no checksum of {name}")
    return (folder / name).read_bytes()


def _problem(manifest: Manifest, step: Step, tensors: Arrays) -> str | None:
    """What does not fit in a step; None if all does."""
    known = {argument.name for argument in step.arguments} | tensors.keys()
    carried = {result.name for result in manifest.steps["train"].results}
    for argument in step.arguments:
        wanted, given = (argument.dtype, argument.shape), tensors.get(argument.name)
        if argument.source in IN_FILE:
            if given is None:
                return f"{step.tensors} has no {argument.name}"
            if (found := (given.dtype.name, given.shape)) != wanted:
                return f"{argument.name} is {found[0]}{list(found[1])}, the program takes {wanted[0]}{list(wanted[1])}"
        elif argument.source == SEED:
            seeds = tensors.get(SEEDS)
            if seeds is None or (seeds.dtype.name, seeds.shape) != (argument.dtype, (manifest.replicas,)):
                return f"{SEEDS} in {step.tensors} are not {argument.dtype}[{manifest.replicas}]"
        elif argument.source != BATCH and argument.source not in carried:
            return f"{argument.name} comes from {argument.source}, which the train step does not carry"
    for result in step.results:
        if result.result is None and result.argument not in known:
            return f"result {result.name} equals {result.argument}, which is no argument"
    return None
