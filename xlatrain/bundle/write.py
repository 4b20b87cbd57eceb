"""A run's steps traced as one replica of its cluster, and written as a bundle: programs, tensors, what they are."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import torch
from omegaconf import OmegaConf
from safetensors.torch import save_file

from xlatrain.bundle.manifest import (
    BATCH,
    CONSTANT,
    MANIFEST,
    SEED,
    SEEDS,
    STATE,
    TABLE,
    Argument,
    Manifest,
    Result,
    Step,
)
from xlatrain.bundle.readme import PROGRAM, readme
from xlatrain.checkpoint.weight import Weight
from xlatrain.config.schema import Config
from xlatrain.credentials import masked
from xlatrain.engine.build import EvalProgram, HostModel, TrainProgram, build_phase_model
from xlatrain.engine.contract import EvalSums, Tensors, TrainMetrics, TrainState
from xlatrain.engine.provenance import JAX, versions
from xlatrain.engine.step import average_buffers
from xlatrain.engine.trace_steps import trace_steps
from xlatrain.engine.weights import sha256
from xlatrain.files import write_json
from xlatrain.models.create import timm_arguments
from xlatrain.preflight.checked import CheckedRun
from xlatrain.preflight.facts import describe_weights
from xlatrain.xla.capture import CapturedStep
from xlatrain.xla.replica import Replica
from xlatrain.xla.stablehlo import to_portable
from xlatrain.xla.trace import RNG, ExportedStep
from xlatrain.xla.transfer import to_device
from xlatrain.xla.world import planned_world

# The groups of options that decide what is in a bundle.
_GROUPS = ("model", "train", "optimizer", "scaling", "schedule", "gradient", "augment", "precision", "ema")


@dataclass(frozen=True)
class _Traced:
    """A step, what it is first given, and, of arguments that another step carries, under which name. All on the
    host."""

    program: ExportedStep
    carry: Tensors = field(default_factory=dict)
    tables: Tensors = field(default_factory=dict)
    carried: Mapping[str, str] = field(default_factory=dict)
    seeds: torch.Tensor | None = None
    of: str | None = None
    values: tuple[str, ...] = ()


def write_bundle(replica: Replica, run: CheckedRun, folder: Path) -> None:
    """Trace the steps of a checked run and write them into a folder. Runs in a process of one replica (xla.launch). The
    manifest comes last: without it a folder is no bundle."""
    config, phase = run.config, run.phases[0]
    world = config.cluster.replicas
    replica = replace(replica, world_size=world, platform=config.cluster.platform)
    with planned_world(world):
        model = build_phase_model(run, phase, replica)
        traced = _trace(run, model, replica)
    steps, releases = {}, set()
    for name, step in traced.items():
        steps[name], release = _write_step(folder, name, step)
        releases.add(release)
    shutil.copyfile(PROGRAM, folder / "run.py")
    (release,) = releases
    data = run.dataset
    arguments = timm_arguments(config.model, data.num_classes, config.data.image_size)
    facts = describe_weights(config, data.num_classes, data.class_names, arguments, versions())
    manifest = Manifest(
        platform=config.cluster.platform,
        replicas=world,
        image_size=phase.image_size,
        total_steps=run.lengths.total_steps,
        local_batch={"train": phase.batch(world), "eval": run.evaluation.batch // world},
        steps=steps,
        weights=_weights(model, config.ema.enabled),
        facts=asdict(facts),
        options=_options(config),
        stablehlo=release,
        versions=versions(JAX),
        files={},
    )
    (folder / "README.md").write_text(readme(manifest))
    files = {path.name: sha256(path) for path in sorted(folder.iterdir())}
    write_json(folder / MANIFEST, replace(manifest, files=files).as_dict())


def _trace(run: CheckedRun, model: HostModel, replica: Replica) -> dict[str, _Traced]:
    train_step, eval_step = trace_steps(run, model, replica)
    training, evaluation = TrainProgram(run, model), EvalProgram(run.evaluation, model)
    carry, world = training.carry(0), replica.world_size
    state = TrainState.of(carry)
    average = "" if state.ema_params is None else "ema_"
    reported = [f.name for f in fields(TrainMetrics) if f.name != "gradient_error" or run.config.gradient.report_error]
    traced = {
        "train": _Traced(
            program=train_step,
            carry={name: tensor for name, tensor in carry.items() if name != RNG},
            tables=training.tables(),
            seeds=torch.stack([training.carry(ordinal)[RNG] for ordinal in range(world)]),
            of="outputs.metrics",
            values=tuple(reported),
        ),
        "eval": _Traced(
            program=eval_step,
            carry=evaluation.carry(),
            tables=evaluation.tables(),
            carried={f"inputs.{name}": _carried(name, average) for name, _ in model.layout.parts},
            of="carry.sums",
            values=tuple(f.name for f in fields(EvalSums)),
        ),
    }
    statistics = state.statistics()
    if run.phases[0].bn_group != world and model.layout.buffers.names:
        step = CapturedStep(average_buffers, replica, "statistics step")
        names = [f"carry.{name}" for name in statistics]
        exported = step.export(to_device(statistics, replica.device), {})
        traced["statistics"] = _Traced(exported, carried=dict(zip(names, names, strict=True)))
    return traced


def _write_step(folder: Path, name: str, traced: _Traced) -> tuple[Step, str]:
    """Write a step's program and tensors. Returns what they are, and the oldest StableHLO that reads the program."""
    exported = traced.program
    portable = to_portable(exported.hlo, exported.aliases)
    (folder / f"{name}.stablehlo").write_bytes(portable.content)
    names = [f"constant.{i}" if n == "constant" else n for i, n in enumerate(exported.parameters)]
    tensors = {f"carry.{n}": t for n, t in traced.carry.items()} | {f"inputs.{n}": t for n, t in traced.tables.items()}
    tensors |= {f"constant.{i}": t for i, t in exported.constants.items()}
    if traced.seeds is not None:
        tensors[SEEDS] = traced.seeds
    if tensors:
        save_file({n: t.detach().clone().contiguous() for n, t in tensors.items()}, folder / f"{name}.safetensors")
    arguments = [
        Argument(n, kind.dtype, kind.shape, _source(n, traced, tensors))
        for n, kind in zip(names, portable.arguments, strict=True)
    ]
    results = [
        Result(n, result=r) if isinstance(r, int) else Result(n, argument=r) for n, r in exported.results.items()
    ]
    step = Step(
        program=f"{name}.stablehlo",
        tensors=f"{name}.safetensors" if tensors else None,
        arguments=tuple(arguments),
        results=tuple(results),
        aliases=exported.aliases,
        of=traced.of,
        values=traced.values,
    )
    return step, portable.version


def _source(name: str, traced: _Traced, tensors: Tensors) -> str:
    """Where an argument comes from, as the manifest says it."""
    kind = name.partition(".")[0]
    if name in traced.carried:
        return traced.carried[name]
    if name not in tensors:
        return SEED if kind == "carry" else BATCH
    return {"carry": STATE, "inputs": TABLE, "constant": CONSTANT}[kind]


def _weights(model: HostModel, averaged: bool) -> tuple[Weight, ...]:
    """Where the tensors of the model's state dict lie. averaged: those of the moving average."""
    layout, average = model.layout, "ema_" if averaged else ""
    found = {}
    for of, part in layout.parts:
        for name, start, shape, axes in part.places():
            found[name] = Weight(name, _carried(of, average), start, shape, axes)
    found |= {further: replace(found[name], name=further) for further, name in layout.aliases}
    found |= {name: Weight(name, "carry.step", 0, ()) for name in layout.counters}
    found |= {n: Weight(n, f"inputs.frozen/{n}", 0, tuple(t.shape)) for n, t in model.persistent().items()}
    return tuple(found.values())


def _carried(part: str, average: str) -> str:
    """What the train step carries a part of the weights under that are meant for use."""
    return f"carry.{part}" if part == "fixed" else f"carry.{average}{part}"


def _options(config: Config) -> dict[str, Any]:
    tree = OmegaConf.to_container(OmegaConf.structured(config))
    return masked({group: tree[group] for group in _GROUPS})
