"""One job of the command line, in the parent process: check, claim a folder, launch the replicas, write the summary."""

from __future__ import annotations

import itertools
import logging
import time
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from xlatrain.config import Config
from xlatrain.errors import ReplicaError
from xlatrain.preflight import Plan, check_eval, check_train, check_weights
from xlatrain.telemetry.run_folder import claimed_folder, write_json

logger = logging.getLogger("xlatrain")


def train(config: Config, overrides: list[str], name: str | None = None) -> dict[str, Any]:
    """Train. name: the folder under run.root, if not run.name. Returns the summary, which is also in summary.json."""
    plan = check_train(config)
    default = free_name(config.run.root, f"{config.model.name}-{config.data.name}")
    return _run(plan, overrides, name or config.run.name or default, "xlatrain.train:train_replica")


def evaluate(config: Config, overrides: list[str], name: str | None = None) -> dict[str, Any]:
    """Evaluate saved weights. As train."""
    plan = check_eval(config)
    check_weights(plan)
    default = free_name(config.run.root, f"eval-{config.model.name}-{config.data.name}")
    return _run(plan, overrides, name or config.run.name or default, "xlatrain.evaluate:evaluate_replica")


def _run(plan: Plan, overrides: list[str], name: str, target: str) -> dict[str, Any]:
    from xlatrain.xla.launch import launch

    started = time.perf_counter()
    cluster = plan.config.cluster
    with claimed_folder(plan.config.run.root, name) as folder:
        (folder / "config.yaml").write_text(OmegaConf.to_yaml(OmegaConf.structured(plan.config)))
        about = {"run": str(folder), "overrides": overrides}
        try:
            summary = launch(target, plan, folder, platform=cluster.platform, replicas=cluster.replicas)
        except ReplicaError as error:
            last = error.report.strip().splitlines()[-1]
            write_json(folder / "summary.json", {"status": "failed", "error": last, **about})
            raise
        summary |= {"wall_seconds": round(time.perf_counter() - started, 3), **about}
        write_json(folder / "summary.json", summary)
    return summary


def free_name(root: str, prefix: str) -> str:
    """A name for a run that has none: the prefix and the time, and a number where that is taken."""
    name = f"{prefix}-{time.strftime('%Y%m%d-%H%M%S')}"
    numbered = (f"{name}-{i}" for i in itertools.count(2))
    return next(n for n in itertools.chain([name], numbered) if not (Path(root) / n).exists())
