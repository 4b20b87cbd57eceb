"""Whether a run can start from the weights asked for, and move as asked for; and what it takes of them, in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import timm

from xlatrain.checkpoint.tensors import checksum
from xlatrain.config.schema import Config
from xlatrain.data.dataset import Dataset
from xlatrain.errors import ConfigError, Fault
from xlatrain.models.classifier import head_names
from xlatrain.models.layers import BODY, find_frozen, layer_scales
from xlatrain.models.pretrained import fetch_pretrained, pretrained_place
from xlatrain.preflight.facts import Facts
from xlatrain.preflight.lengths import Lengths, parse_duration
from xlatrain.preflight.origin import Fit, Origin, find_origin, fit, read_origin, without
from xlatrain.preflight.space import begun
from xlatrain.preflight.weights_file import read_facts
from xlatrain.words import counted, listed

if TYPE_CHECKING:
    from torch import nn

_ALIKE = ("data.mean", "data.std")  # what weights were made for, and images should be brought to


@dataclass(frozen=True)
class Beginning:
    """origin: the weights that a run starts from, if it does. notes: what is said of them. faults: why it cannot."""

    origin: Origin | None = None
    notes: tuple[str, ...] = ()
    faults: list[Fault] = field(default_factory=list)


def find_beginning(config: Config, model: nn.Module, dataset: Dataset, starts: bool) -> Beginning:
    """What a run starts from. model: without memory. starts: it is to start here; if it has checkpoints it goes on from
    them, and nothing is read."""
    asked = config.weights is not None or config.model.pretrained
    if not asked:
        return Beginning()
    if config.weights is not None and not isinstance(config.weights, str):
        fault = Fault("weights", f"{config.weights} is no file or folder: a run starts from one", "name one")
        return Beginning(faults=[fault])
    key = "model.pretrained" if config.model.pretrained else "weights"
    if starts and begun(config):
        return Beginning(notes=(f"{key} is not read: {config.run.name} has checkpoints, and goes on from them",))
    try:
        origin = _pretrained(config) if config.model.pretrained else find_origin(config.weights, config.run.root)
        facts = read_facts(origin.file) if origin.places is None else None
        there = read_origin(origin)
        new = config.finetune.head == "new" or (config.finetune.head == "auto" and _other_classes(facts, dataset))
        found = fit(there, model, new)
    except ConfigError as error:
        return Beginning(faults=list(error.faults))
    except ValueError as error:
        return Beginning(faults=[Fault(key, f"{config.weights or config.model.name}: {error}", "name other weights")])
    if fault := _misfit(config, origin, facts, found, model):
        return Beginning(faults=[fault])
    shapes = {name: list(tensor.shape) for name, tensor in there.items()}
    notes = _describe(config, origin, facts, found, new, shapes, dataset)
    return Beginning(without(origin, found.new), tuple(notes))


def movement_faults(config: Config, model: nn.Module, lengths: Lengths) -> list[Fault]:
    """What is wrong with freezing, layer-wise rates and a head that comes first."""
    options, faults, still = config.finetune, [], frozenset()
    names, head = {name for name, _ in model.named_parameters()}, head_names(model)
    try:
        still = find_frozen(model, options.freeze).parameters
        if still == names:
            faults.append(Fault("finetune.freeze", "nothing is left to train", f"leave the head: [{BODY}]"))
    except ValueError as error:
        faults.append(Fault("finetune.freeze", str(error), "name modules, stages (stem, stage1, ...) or body"))
    try:
        if config.optimizer.layer_decay is not None:
            layer_scales(model, config.optimizer.layer_decay)
    except ValueError as error:
        faults.append(Fault("optimizer.layer_decay", f"{config.model.name}: {error}", "leave it out"))
    if (first := options.head_first) is None or faults:
        return faults
    steps = lengths.steps(parse_duration(first))
    if steps >= lengths.total_steps:
        ends = f"{first} are {counted(steps, 'step')} and the run has {lengths.total_steps:,}"
        problem = f"{ends}: only the head would move"
        faults.append(Fault("finetune.head_first", problem, f"shorten it, or take finetune.freeze=[{BODY}]"))
    elif not head or head <= still:
        faults.append(Fault("finetune.head_first", "there is no head that moves", "leave it out"))
    elif names - head <= still:
        faults.append(Fault("finetune.head_first", "all but the head is frozen", "leave it out"))
    return faults


def describe_movement(config: Config, model: nn.Module, lengths: Lengths) -> list[str]:
    """What moves how, in words."""
    options, notes = config.finetune, []
    values = {name: p.numel() for name, p in model.named_parameters()}
    if options.freeze:
        still = find_frozen(model, options.freeze)
        size = sum(values[name] for name in still.parameters)
        norms = f", and the statistics of {counted(len(still.norms), 'batch norm')}" if still.norms else ""
        notes.append(
            f"frozen: {counted(len(still.parameters), 'tensor')} of {len(values):,} with {counted(size, 'value')} of "
            f"{sum(values.values()):,}{norms}"
        )
    if (decay := config.optimizer.layer_decay) is not None:
        scales = sorted(set(layer_scales(model, decay).values()))
        notes.append(f"layer-wise rates: {counted(len(scales), 'layer')}, from {scales[0]:.3g} to {scales[-1]:.3g}")
    if options.head_first is not None:
        steps = lengths.steps(parse_duration(options.head_first))
        notes.append(f"the head moves alone for {counted(steps, 'step')}: {listed(sorted(head_names(model)), 4)}")
    return notes


def _pretrained(config: Config) -> Origin:
    """timm's weights of the model. Raises ConfigError."""
    name, key = config.model.name, "model.pretrained"
    try:
        place = pretrained_place(name)
    except ValueError as error:
        near = [text for text in timm.list_pretrained() if text.startswith(name.partition(".")[0] + ".")]
        cure = f"take one of {listed(near, 6)}" if near else "leave it out, or name a file: weights=FILE"
        raise ConfigError(Fault(key, str(error), cure)) from None
    try:
        return Origin(fetch_pretrained(name), "timm's weights")
    except ValueError as error:
        cure = f"fetch its model.safetensors where there is a network, and put it here as {place}, or weights=FILE"
        raise ConfigError(Fault(key, f"{place} is not there, and {error}", cure)) from None


def _other_classes(facts: Facts | None, dataset: Dataset) -> bool:
    """Whether weights know the names of their classes, and these are others."""
    return bool(facts and facts.class_names and dataset.class_names) and facts.class_names != tuple(dataset.class_names)


def _misfit(config: Config, origin: Origin, facts: Facts | None, found: Fit, model: nn.Module) -> Fault | None:
    key = "model.pretrained" if config.model.pretrained else "weights"
    if config.finetune.head == "keep" and found.new:
        name = found.new[0]
        problem = f"{origin.file} has no head that fits: {name} cannot be taken"
        return Fault("finetune.head", problem, "take finetune.head=new, or auto")
    if not found.misfits:
        return None
    total = len(found.taken) + len(found.new) + len(found.misfits)
    name, why = next(iter(found.misfits.items()))
    problem = f"{origin.file} is of another model: {len(found.taken):,} of {counted(total, 'tensor')} fit; {name} {why}"
    theirs = facts.options.get("model.name") if facts else None
    if theirs and theirs != config.model.name:
        return Fault(key, problem, f"they are of model.name={theirs}: take that, or other weights")
    return Fault(key, problem, "name the model that they are of, or other weights")


def _describe(
    config: Config,
    origin: Origin,
    facts: Facts | None,
    found: Fit,
    asked: bool,
    shapes: Mapping[str, list[int]],
    dataset: Dataset,
) -> list[str]:
    """What is taken of an origin and what is not, line by line."""
    status, kind = origin.file.stat(), origin.kind
    digest = _digest(origin.file, (status.st_ino, status.st_size, status.st_mtime_ns))
    if facts:
        kind = "a run's weights, " + ("the average" if facts.averaged else "no average")
    lines = [f"starts from {_shown(origin.file)}: {kind}, sha256 {digest[:16]}"]
    lines.append(f"  taken: {counted(len(found.taken), 'tensor')}, as they are but for those that are resized or new")
    lines += [f"  resized: {name} from {there} to {here}" for name, (there, here) in found.resized.items()]
    if found.new:
        why = f"{_classes(found, shapes)} there, {dataset.num_classes:,} here"
        if config.finetune.head == "new":
            why = "asked for"
        elif asked:
            why = f"its classes are others: {listed(facts.class_names, 3)}; here {listed(dataset.class_names, 3)}"
        lines.append(f"  new: {', '.join(found.new)} ({why})")
    if found.unused:
        lines.append(f"  not taken: {listed(found.unused, 6)}")
    return lines + _made_for(config, facts)


@cache
def _digest(path: Path, version: tuple[int, int, int]) -> str:
    """SHA-256 of a file, once for all jobs of a sweep: 100 MB take half a second. version: tells it from one that takes
    its place."""
    with path.open("rb") as file:
        return checksum(file)[1]


def _classes(found: Fit, shapes: Mapping[str, list[int]]) -> str:
    sizes = {shapes[name][0] for name in found.new if shapes.get(name)}
    return counted(sizes.pop(), "class") if len(sizes) == 1 else "no such head"


def _made_for(config: Config, facts: Facts | None) -> list[str]:
    """That images are normalised otherwise than those that the weights were made for."""
    there: dict[str, Sequence[float]] = {}
    if facts:
        there = {key: facts.options[key] for key in _ALIKE if key in facts.options}
    elif config.model.pretrained:
        known = timm.get_pretrained_cfg(config.model.name)
        there = {"data.mean": list(known.mean), "data.std": list(known.std)}
    here = {"data.mean": config.data.mean, "data.std": config.data.std}
    other = [f"{key}={list(values)}" for key, values in there.items() if list(values) != list(here[key])]
    return [f"warning: the weights were made for {', '.join(other)}; images are normalised otherwise"] if other else []


def _shown(path: Path) -> str:
    """A path as people would name it from here."""
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)
