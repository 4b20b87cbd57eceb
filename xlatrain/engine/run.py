"""One job of the command line, in the parent process: claim a folder, launch the replicas, write the summary."""

from __future__ import annotations

import itertools
import logging
import math
import os
import textwrap
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from omegaconf import OmegaConf

from xlatrain.config.schema import Config, EngineConfig
from xlatrain.console import say
from xlatrain.credentials import masked
from xlatrain.engine.provenance import provenance, used_by
from xlatrain.engine.run_folder import claimed_folder
from xlatrain.errors import ReplicaError
from xlatrain.files import write_json
from xlatrain.preflight.check import check, check_evaluation
from xlatrain.preflight.checked import CheckedEvaluation, CheckedRun

_TARGETS = {"train": "xlatrain.engine.train:train_replica", "eval": "xlatrain.engine.evaluate:evaluate_replica"}

_NO_LIMIT = 2**62  # bytes

logger = logging.getLogger("xlatrain")


def train(run: CheckedRun | Sequence[str] = (), name: str | None = None) -> dict[str, Any]:
    """Train a checked run, or one of these overrides, and return the summary, which is also in summary.json.

    name: the folder under run.root, if not run.name. Raises ConfigError before any device is touched, and ReplicaError
    with the traceback of the replica that failed first. A script that calls this needs the usual guard, if __name__ ==
    "__main__", since replicas live in child processes."""
    run = run if isinstance(run, CheckedRun) else check(run)
    return _launch("train", run, name or _default_name(run.config, ""))


def evaluate(evaluation: CheckedEvaluation | Sequence[str], name: str | None = None) -> dict[str, Any]:
    """Evaluate saved weights. As train."""
    evaluation = evaluation if isinstance(evaluation, CheckedEvaluation) else check_evaluation(evaluation)
    return _launch("eval", evaluation, name or _default_name(evaluation.config, "eval-"))


def _default_name(config: Config, prefix: str) -> str:
    return config.run.name or free_name(config.run.root, f"{prefix}{config.model.name}-{config.data.name}")


def _launch(verb: str, checked: CheckedRun | CheckedEvaluation, name: str) -> dict[str, Any]:
    from xlatrain.xla.jax_start import Hosts
    from xlatrain.xla.launch import launch

    started = time.perf_counter()
    config, overrides = checked.config, list(checked.overrides)
    cluster = config.cluster
    where = {"platform": cluster.platform, "replicas": cluster.replicas, "runtime": config.engine.runtime}
    where |= {"processes": (cluster.processes_per_host or 1) if cluster.platform == "cpu" else 1}
    where |= {"environment": _cache_environment(config.engine)}
    where |= {"hosts": Hosts(cluster.hosts or 1, cluster.host or 0, cluster.coordinator)}
    if cluster.host:  # machine 0 has the folder, and the replica that writes to it
        return launch(_TARGETS[verb], checked, Path(config.run.root) / name, **where)
    with claimed_folder(config.run.root, name) as folder:
        origin = masked(provenance(["xlatrain", verb, *overrides], used_by(config)))
        write_config(folder / "config.yaml", config, origin)
        about = {"run": str(folder), "overrides": overrides, "provenance": origin}
        for note in checked.notes:
            say(note)
        try:
            summary = launch(_TARGETS[verb], checked, folder, **where)
        except ReplicaError as error:
            with (folder / "train.log").open("a") as log:
                log.write(masked(f"{error.report.rstrip()}\n"))
            last = error.report.strip().splitlines()[-1]
            write_json(folder / "summary.json", masked({"status": "failed", "error": last, **about}))
            raise
        summary |= {"wall_seconds": round(time.perf_counter() - started, 3), **about}
        write_json(folder / "summary.json", masked(summary))
    return summary


def _cache_environment(engine: EngineConfig) -> dict[str, str]:
    """The limit of JAX's compile cache, as JAX reads it; none of a folder that the user has named to JAX."""
    if engine.runtime != "jax" or "JAX_COMPILATION_CACHE_DIR" in os.environ:
        return {}
    limit = _NO_LIMIT if engine.compile_cache_gb is None else round(engine.compile_cache_gb * 1e9)
    return {"JAX_COMPILATION_CACHE_MAX_SIZE": str(limit)}


def write_config(path: Path, config: Config, origin: dict[str, Any]) -> None:
    """Write a configuration as YAML that composes again, where it comes from as comments above it. Credentials in URLs
    are masked."""
    header = yaml.safe_dump(origin, sort_keys=False, allow_unicode=True, width=math.inf)
    content = OmegaConf.create(masked(OmegaConf.to_container(OmegaConf.structured(config))))
    path.write_text(textwrap.indent(header, "# ") + OmegaConf.to_yaml(content))


def free_name(root: str, prefix: str) -> str:
    """A name for a run that has none: the prefix and the time, and a number where that is taken."""
    name = f"{prefix}-{time.strftime('%Y%m%d-%H%M%S')}"
    numbered = (f"{name}-{i}" for i in itertools.count(2))
    return next(n for n in itertools.chain([name], numbered) if not (Path(root) / n).exists())
