"""From a run to its bundle: what is checked before, and the process that writes it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from pathlib import Path

from xlatrain.errors import ConfigError, Fault
from xlatrain.preflight.check import check
from xlatrain.preflight.checked import CheckedRun
from xlatrain.words import counted
from xlatrain.xla.stablehlo import missing_libraries

INSTALL = "pip install 'xlatrain[jax]'"


def export(run: CheckedRun | Sequence[str], folder: str | Path, say: Callable[[str], None] = lambda text: None) -> Path:
    """Write the steps of a checked run, or one of these overrides, into a new or empty folder; returns it. Nothing is
    compiled or run, and no device is needed but a CPU. say: told what happens.

    Raises ConfigError before anything is started, and ReplicaError where a step cannot be traced. A script that calls
    this needs the usual guard, if __name__ == "__main__"."""
    from xlatrain.xla.launch import launch

    folder = Path(folder)
    run = check_export(run, folder)
    config, new = run.config, not folder.exists()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (probe := folder / ".part").touch()
        probe.unlink()
    except OSError as error:
        raise ConfigError(Fault("out", f"{folder} cannot be written: {error}", "name a folder of yours")) from None
    try:
        say(f"tracing {config.model.name} as one of {counted(config.cluster.replicas, 'replica')}")
        launch("xlatrain.bundle.write:write_bundle", run, folder.resolve())
    except BaseException:
        for path in folder.iterdir():
            path.unlink()
        if new:
            with contextlib.suppress(OSError):
                folder.rmdir()
        raise
    return folder


def check_export(run: CheckedRun | Sequence[str], folder: Path) -> CheckedRun:
    """A run that can be exported into a folder. Raises ConfigError with every fault found."""
    faults = []
    if absent := missing_libraries():
        faults.append(Fault("xlatrain export", f"needs JAX's StableHLO; {', '.join(absent)} not installed", INSTALL))
    if folder.is_dir() and any(folder.iterdir()):
        faults.append(Fault("out", f"{folder} is not empty", "name a new folder"))
    elif folder.exists() and not folder.is_dir():
        faults.append(Fault("out", f"{folder} is a file", "name a new folder"))
    try:
        run = run if isinstance(run, CheckedRun) else check(run, starts=False)
        if len(run.phases) > 1 or run.phases[0].image_size != run.config.data.image_size:
            cure = "export each: data.image_size=128 train.global_batch=8192 augment.sizes=[]"
            faults.append(Fault("augment.sizes", "a bundle is for images of one size", cure))
    except ConfigError as error:
        faults += error.faults
    if faults:
        raise ConfigError(*faults)
    return run
