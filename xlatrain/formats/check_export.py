"""From a command to an export of weights that can be started."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from xlatrain.config.schema import Config
from xlatrain.errors import ConfigError, Fault
from xlatrain.formats.checked import CheckedExport
from xlatrain.formats.kinds import KINDS, TIMM, Kind
from xlatrain.out_path import new_faults
from xlatrain.preflight.check import check_composed, check_evaluation_config
from xlatrain.preflight.checked import CheckedEvaluation


def check_export_of_weights(kind: str, overrides: Sequence[str], out: str | None, batch: str = "1") -> CheckedExport:
    """Compose and check. out: the file, or folder, that is written. Raises ConfigError with every fault found."""
    asked = KINDS[kind]
    faults = _out_faults(asked, out)
    if absent := asked.missing():
        faults.append(Fault(f"xlatrain export {kind}", f"{', '.join(absent)} not installed", asked.install))
    if not batch.isdigit() or not 0 < int(batch) <= 1 << 16:
        faults.append(Fault("batch", f"{batch!r} is no number of images", "give a whole number, as in batch=8"))
    try:
        evaluation = check_composed(overrides, lambda config, whole: _check(asked, config, overrides, whole))
    except ConfigError as error:
        faults += error.faults
    if faults:
        raise ConfigError(*faults)
    return CheckedExport(asked, evaluation, Path(out), int(batch))


def _check(kind: Kind, config: Config, overrides: Sequence[str], whole: bool) -> CheckedEvaluation:
    faults = []
    if config.cluster.platform != "cpu":
        faults.append(Fault("cluster", "an export is made and compared on the CPU", "leave it out"))
    if isinstance(config.weights, list):
        faults.append(Fault("weights", "several weights are no one model", "export each"))
    if kind == TIMM and config.model._target_:
        cure = "take onnx, torch or stablehlo"
        faults.append(Fault("model._target_", f"{config.model._target_} is no model of timm's", cure))
    if faults:
        raise ConfigError(*faults)
    engine, cluster = replace(config.engine, runtime="torch_xla"), replace(config.cluster, replicas=1)
    return check_evaluation_config(replace(config, engine=engine, cluster=cluster), overrides, whole=whole)


def _out_faults(kind: Kind, out: str | None) -> list[Fault]:
    what = f"FILE{kind.suffix}" if kind.suffix else "FOLDER"
    if not out:
        return [Fault("out", f"no {'file' if kind.suffix else 'folder'} is named", f"give out={what}")]
    if kind.suffix and Path(out).suffix != kind.suffix:
        return [Fault("out", f"{out} does not end in {kind.suffix}", f"give out={what}")]
    return new_faults(out, "one")
