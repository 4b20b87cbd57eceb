"""The checks of an evaluation: what its weights are, and what they know of themselves."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from pathlib import Path

from xlatrain.config.schema import Config
from xlatrain.engine.state import model_layout
from xlatrain.engine.weights import load_weights, read_facts
from xlatrain.errors import ConfigError, Fault
from xlatrain.preflight.check import Plan, check_run
from xlatrain.preflight.facts import compare_classes, take_facts


def check_eval(config: Config, given: Collection[str] = ()) -> Plan:
    """Check an evaluation run. given: the options that the command names; for the others stands what the weights know
    of themselves. Raises ConfigError with every fault found."""
    facts, notes, faults, file = None, [], _weights(config), Path(config.weights or "").name
    try:
        if not faults and (facts := read_facts(Path(config.weights))):
            config, notes = take_facts(config, facts, given, file)
        elif not faults:
            notes = [f"{file} says nothing of itself: model, size, mean, std and crop are those of the command"]
    except ConfigError as error:
        faults += error.faults
    try:
        plan = check_run(config, training=False)
        if facts:
            notes += compare_classes(facts, plan.dataset.class_names, config.data.name, file)
    except ConfigError as error:
        taken = set(facts.options) - set(given) if facts else ()
        cure = f"that is what {file} says: take data that fit it, or give the option"
        faults += [replace(f, cure=cure) if f.key in taken else f for f in error.faults if f not in faults]
    if faults:
        raise ConfigError(*faults)
    return replace(plan, notes=tuple(notes))


def check_weights(plan: Plan) -> None:
    """See that the weights file fits the model of a checked evaluation. Raises ConfigError."""
    from xlatrain.models.create import build_model

    config = plan.config
    module = build_model(config.model, plan.dataset.num_classes, config.data.image_size, config.train.seed)
    load_weights(Path(config.weights), model_layout(module))


def _weights(config: Config) -> list[Fault]:
    cure = "give weights=runs/NAME/weights.safetensors"
    if config.weights is None:
        return [Fault("weights", "nothing to evaluate", cure)]
    return [] if Path(config.weights).is_file() else [Fault("weights", f"there is no file {config.weights}", cure)]
