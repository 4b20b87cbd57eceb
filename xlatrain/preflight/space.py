"""Whether what a run is to keep will find room."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from xlatrain.config.schema import Config
from xlatrain.errors import Fault
from xlatrain.files import existing
from xlatrain.preflight.lengths import Lengths, parse_duration

if TYPE_CHECKING:
    import torch
    from torch import nn

_GIB, _MIB = 2**30, 2**20


def checkpoint_space_faults(config: Config, model: nn.Module, lengths: Lengths) -> list[Fault]:
    """That the checkpoints that will be kept find no room on a disk of this machine, where they are to lie on one. What
    stands there already has its own. model: without memory. Their size is that of parameters, slots, averages and
    statistics of one group of replicas, so a little less than it may be."""
    from xlatrain.optim.create import build_optimizer

    options, name = config.checkpoint, config.run.name
    if config.cluster.host or "://" in (options.folder or ""):
        return []
    kept = options.keep + (options.best is not None)
    if options.keep_every is not None:
        kept += lengths.times(parse_duration(options.keep_every), lengths.total_steps)
    copies = 2 if config.ema.enabled else 1
    parameters = _flat(model.parameters())
    statistics = _flat(b for b in model.buffers() if b.is_floating_point())
    each = parameters * (copies + len(build_optimizer(config.optimizer).slots)) + statistics * copies
    folder, standing = Path(options.folder or config.run.root), 0
    if name is not None:
        folder = Path(checkpoint_place(config, name))
        standing = len(list(folder.glob("step-*")))
    key = "checkpoint.keep" if options.keep_every is None else "checkpoint.keep_every"
    return space_faults(key, folder, each, max(0, kept - standing))


def begun(config: Config) -> bool:
    """Whether a run has checkpoints on a disk of this machine, from which it goes on."""
    name = config.run.name
    if name is None or config.run.resume == "never" or "://" in (config.checkpoint.folder or ""):
        return False
    return any(Path(checkpoint_place(config, name)).glob("step-*"))


def checkpoint_place(config: Config, name: str) -> str:
    """Folder or URL of the checkpoints of the run of a name."""
    if config.checkpoint.folder is None:
        return str(Path(config.run.root) / name / "checkpoints")
    return f"{config.checkpoint.folder.rstrip('/')}/{name}"


def space_faults(key: str, folder: str | Path, each: int, kept: int) -> list[Fault]:
    """That a folder, which need not exist yet, lacks room for `kept` files or folders of `each` bytes, and for one more
    that is written before the oldest goes. key: the option that asks for them."""
    there = existing(Path(folder))
    needed, free = each * (kept + 1), shutil.disk_usage(there).free
    if needed <= free:
        return []
    problem = f"{kept} of {_size(each)}, and one in the making, need {_size(needed)}; {there} has {_size(free)} free"
    fitting = free // each - 1
    cure = f"{key}={fitting}, or " if fitting >= 1 and not key.endswith("_every") else ""
    return [Fault(key, problem, f"{cure}free some, or name another folder")]


def _flat(tensors: Iterable[torch.Tensor]) -> int:
    """Bytes of tensors as one flat one of float32, where each has whole rows (optim.flat)."""
    from xlatrain.optim.flat import ROW

    return 4 * sum(-(-tensor.numel() // ROW) * ROW for tensor in tensors)


def _size(count: float) -> str:
    return f"{count / _GIB:,.2f} GiB" if count >= _GIB / 10 else f"{count / _MIB:,.1f} MiB"
