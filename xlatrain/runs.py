"""One job of the command line, in the parent process: check, claim a folder, launch the replicas, write the summary."""

from __future__ import annotations

import logging
import time
from typing import Any

from omegaconf import OmegaConf

from xlatrain.config import Config
from xlatrain.errors import ReplicaError
from xlatrain.preflight import Plan, check_eval, check_train, check_weights
from xlatrain.telemetry.run_folder import claim_run_folder, write_json

logger = logging.getLogger("xlatrain")


def train(config: Config, overrides: list[str], name: str | None = None) -> dict[str, Any]:
    """Train. name: the folder under run.root, if not run.name. Returns the summary, which is also in summary.json."""
    plan = check_train(config)
    default = f"{config.model.name}-{config.data.name}-{time.strftime('%Y%m%d-%H%M%S')}"
    return _run(plan, overrides, name or config.run.name or default, "xlatrain.train:train_replica")


def evaluate(config: Config, overrides: list[str], name: str | None = None) -> dict[str, Any]:
    """Evaluate saved weights. As train."""
    plan = check_eval(config)
    check_weights(plan)
    default = f"eval-{config.model.name}-{config.data.name}-{time.strftime('%Y%m%d-%H%M%S')}"
    return _run(plan, overrides, name or config.run.name or default, "xlatrain.evaluate:evaluate_replica")


def _run(plan: Plan, overrides: list[str], name: str, target: str) -> dict[str, Any]:
    from xlatrain.xla.launch import launch

    started = time.perf_counter()
    folder = claim_run_folder(plan.config.run.root, name)
    (folder / "config.yaml").write_text(OmegaConf.to_yaml(OmegaConf.structured(plan.config)))
    cluster = plan.config.cluster
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
