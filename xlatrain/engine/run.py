"""One job of the command line, in the parent process: check, claim a folder, launch the replicas, write the summary."""

from __future__ import annotations

import itertools
import logging
import math
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

import yaml
from omegaconf import OmegaConf

from xlatrain.config.compose import given_keys
from xlatrain.config.schema import Config
from xlatrain.credentials import masked
from xlatrain.engine.provenance import provenance
from xlatrain.engine.run_folder import claimed_folder, write_json
from xlatrain.errors import ReplicaError
from xlatrain.preflight.check import Plan, check_train
from xlatrain.preflight.evaluation import check_eval, check_weights

_TARGETS = {"train": "xlatrain.engine.train:train_replica", "eval": "xlatrain.engine.evaluate:evaluate_replica"}

logger = logging.getLogger("xlatrain")


def train(config: Config, overrides: list[str], name: str | None = None) -> dict[str, Any]:
    """Train. name: the folder under run.root, if not run.name. Returns the summary, which is also in summary.json."""
    plan = check_train(config)
    for warning in plan.warnings:
        sys.stderr.write(f"warning: {warning}\n")
    default = free_name(config.run.root, f"{config.model.name}-{config.data.name}")
    return _run(plan, overrides, name or config.run.name or default, "train")


def evaluate(config: Config, overrides: list[str], name: str | None = None) -> dict[str, Any]:
    """Evaluate saved weights. As train."""
    plan = check_eval(config, given_keys(overrides))
    check_weights(plan)
    default = free_name(config.run.root, f"eval-{plan.config.model.name}-{config.data.name}")
    return _run(plan, overrides, name or config.run.name or default, "eval")


def _run(plan: Plan, overrides: list[str], name: str, verb: str) -> dict[str, Any]:
    from xlatrain.xla.launch import launch

    started = time.perf_counter()
    cluster = plan.config.cluster
    with claimed_folder(plan.config.run.root, name) as folder:
        origin = masked(provenance(["xlatrain", verb, *overrides]))
        write_config(folder / "config.yaml", plan.config, origin)
        about = {"run": str(folder), "overrides": overrides, "provenance": origin}
        try:
            summary = launch(_TARGETS[verb], plan, folder, platform=cluster.platform, replicas=cluster.replicas)
        except ReplicaError as error:
            last = error.report.strip().splitlines()[-1]
            write_json(folder / "summary.json", masked({"status": "failed", "error": last, **about}))
            raise
        summary |= {"wall_seconds": round(time.perf_counter() - started, 3), **about}
        write_json(folder / "summary.json", masked(summary))
    return summary


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
