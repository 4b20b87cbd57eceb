"""From options to what can be started: every check that needs no device, all faults at once."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from xlatrain.config.comparison import quote_comparisons
from xlatrain.config.compose import compose_config, register_schemas
from xlatrain.config.finetune import FinetuneConfig
from xlatrain.config.override import given_keys
from xlatrain.config.schema import Config
from xlatrain.data.clustering import advise
from xlatrain.data.dataset import Dataset
from xlatrain.data.phase import Phase
from xlatrain.data.sharded import ShardedSplit
from xlatrain.errors import ConfigError, Fault
from xlatrain.preflight.checked import CheckedEvaluation, CheckedRun
from xlatrain.preflight.contradictions import find_contradictions
from xlatrain.preflight.decide import decide, decide_phase
from xlatrain.preflight.ensemble import OpenData, as_ensemble, ensemble_faults, open_of_run, weight_files
from xlatrain.preflight.environment import environment_faults
from xlatrain.preflight.facts import compare_classes, take_facts
from xlatrain.preflight.gpus import describe_replicas
from xlatrain.preflight.lengths import Lengths
from xlatrain.preflight.loggers import logger_faults
from xlatrain.preflight.model import build_blank, is_in_question
from xlatrain.preflight.own_optimizer import optimizer_faults
from xlatrain.preflight.profile import profile_faults
from xlatrain.preflight.resolve import (
    check_durations,
    describe_short_warmup,
    resolve_lengths,
    resolve_scaling,
    resolve_schedule,
)
from xlatrain.preflight.run_data import with_data_of_run
from xlatrain.preflight.runtime import runtime_faults
from xlatrain.preflight.space import checkpoint_space_faults
from xlatrain.preflight.stride import describe_small_images
from xlatrain.preflight.until import until_faults
from xlatrain.preflight.values import batch_faults, checkpoint_folder_faults, folder_faults, value_faults
from xlatrain.preflight.versions import version_faults
from xlatrain.preflight.weights_file import check_fit, find_weights, read_facts

if TYPE_CHECKING:
    from torch import nn

Checked = TypeVar("Checked", CheckedRun, CheckedEvaluation)


def check(overrides: Sequence[str] = (), starts: bool = True) -> CheckedRun:
    """Compose and check a training run. starts: whether it is to start on this machine, which has to have what it
    takes then; one to be planned, exported or shown need not. Raises ConfigError with every fault found."""
    overrides = quote_comparisons(overrides)
    return check_composed(overrides, lambda config, whole: check_config(config, overrides, starts, whole))


def check_evaluation(overrides: Sequence[str]) -> CheckedEvaluation:
    """Compose and check an evaluation of saved weights. Raises ConfigError with every fault found."""
    return check_composed(overrides, lambda config, whole: check_evaluation_config(config, overrides, whole=whole))


def look_over(overrides: Sequence[str], check: Callable[..., Any]) -> None:
    """See what is wrong with a command as far as this can be told without its model, at once: neither torch nor timm is
    imported. check: check_config or check_evaluation_config. Raises ConfigError; not for a command in whose model there
    may be faults, which are to be told with it."""
    if is_in_question(overrides):
        return
    try:
        check_composed(overrides, lambda config, whole: check(config, overrides, whole=False))
    except ConfigError as error:
        if error.faults:
            raise


def check_composed(overrides: Sequence[str], check: Callable[[Config, bool], Checked]) -> Checked:
    """What a check makes of the overrides as they compose; it is told whether all of them do. Raises ConfigError with
    what is wrong with the overrides, and with what the sound ones of them come to."""
    register_schemas()
    faults: list[Fault] = []
    try:
        config, _ = compose_config(overrides)
    except ConfigError as error:
        faults += error.faults
        try:
            config, _ = compose_config(error.usable, fill=True)
        except ConfigError:
            raise error from None
    try:
        checked = check(config, not faults)
    except ConfigError as error:
        known = {f.key for f in faults}
        faults += [f for f in error.faults if f.key not in known]
        if not faults:  # it did not look at all there is
            raise
    if faults:
        raise ConfigError(*faults)
    return checked


def check_config(config: Config, overrides: Sequence[str] = (), starts: bool = True, whole: bool = True) -> CheckedRun:
    """Check a training run that is composed already. starts: as of check. whole: all overrides are in it, so that it
    is to start if nothing else is wrong. Raises ConfigError with every fault found."""
    faults = value_faults(config)
    sound = not faults
    if config.eval.details:
        faults.append(Fault("eval.details", "is of `xlatrain eval`", "leave it out, and evaluate the run's weights"))
    faults += optimizer_faults(config.optimizer) + until_faults(config.train.until)
    if starts:
        faults += logger_faults(config.logger, os.environ)
    asked = config.cluster
    basis = _basis(config, starts)
    config, dataset, faults = basis.config, basis.dataset, faults + basis.faults
    faults += batch_faults(config, dataset.train.samples if dataset else None)
    lengths, schedule = None, None
    if duration_faults := check_durations(config):
        faults += duration_faults
    elif sound:
        try:
            config = resolve_scaling(config)
            lengths = resolve_lengths(config, dataset.train.samples) if dataset else None
            schedule = resolve_schedule(config, lengths) if lengths else None
        except ConfigError as error:
            known = {fault.key for fault in faults}
            faults += [fault for fault in error.faults if fault.key not in known]
    faults += profile_faults(config.engine, lengths.total_steps if lengths else None)
    basis = _with_model(basis, overrides, whole and not faults)
    faults += basis.of_model
    phases = []
    for phase in lengths.phases if lengths and not faults else ():
        model = basis.model
        if phase.image_size != config.data.image_size:
            sized = replace(config, data=replace(config.data, image_size=phase.image_size))
            model, model_faults = build_blank(sized, dataset.num_classes)
            faults += model_faults
        decided, phase_faults = decide_phase(config, phase, model)
        phases.append(decided)
        faults += phase_faults
    if not faults and basis.model is None:
        raise ConfigError
    if not faults:
        from xlatrain.preflight.finetune import describe_movement, find_beginning, movement_faults

        faults = movement_faults(config, basis.model, lengths)
        beginning = find_beginning(config, basis.model, dataset, starts)
        faults += beginning.faults
    if not faults and starts:
        faults = checkpoint_space_faults(config, basis.model, lengths)
    if faults:
        raise ConfigError(*faults)
    lengths = replace(lengths, phases=tuple(phases))
    if len(phases) == 1 and phases[0].image_size == config.data.image_size:
        config = replace(config, model=replace(config.model, fold=phases[0].fold))
    sizes = [phase.image_size for phase in phases]
    size_option = "augment.sizes" if config.augment.sizes else "data.image_size"
    texts = (
        describe_replicas(asked, config.cluster),
        describe_short_warmup(config, lengths, schedule),
        describe_small_images(config.model.name, basis.model, sizes, size_option),
        _uneven_batches(config, dataset, lengths),
    )
    notes = [text for text in texts if text] + [*beginning.notes, *describe_movement(config, basis.model, lengths)]
    evaluation = _evaluation(config, dataset, basis.phase, overrides)
    return CheckedRun(tuple(overrides), config, dataset, lengths, schedule, evaluation, beginning.origin, tuple(notes))


def _uneven_batches(config: Config, dataset: Dataset, lengths: Lengths) -> str | None:
    """That classes lie together in the shards, so that batches would not hold a mixture of them, and what cures it."""
    split, cluster = dataset.train, config.cluster
    if not isinstance(split, ShardedSplit):
        return None
    batch = max(phase.global_batch for phase in lengths.phases)
    text = advise(split.index.clustering, split.reading(batch, cluster.hosts or 1))
    return f"warning: {text}" if text else None


def check_evaluation_config(
    config: Config, overrides: Sequence[str] = (), open_data: OpenData = open_of_run, whole: bool = True
) -> CheckedEvaluation:
    """Check an evaluation that is composed already. For options that the overrides do not name stands what the weights
    know of themselves. open_data: gives its data. whole: as of check_config. Raises ConfigError with every fault
    found."""
    files = weight_files(config.weights)
    found, faults = [], []
    for file in files or [None]:
        try:
            alone = replace(config, weights=file, finetune=FinetuneConfig())  # which is for training
            found.append(_check_weights(alone, overrides, open_data, whole))
        except ConfigError as error:
            faults += [fault for fault in error.faults if fault not in faults]
    if not faults and found:
        faults = ensemble_faults(found)
    if faults or not found:
        raise ConfigError(*faults)
    return found[0] if len(found) == 1 else as_ensemble(found)


def _check_weights(config: Config, overrides: Sequence[str], open_data: OpenData, whole: bool) -> CheckedEvaluation:
    """The same for one file of weights."""
    given, file = given_keys(overrides), ""
    facts, notes, faults = None, [], []
    try:
        path = find_weights(config.weights, config.run.root)
        config, file = replace(config, weights=str(path)), path.name
        if open_data is open_of_run:
            config, notes = with_data_of_run(config, given)
        if facts := read_facts(path):
            config, taken = take_facts(config, facts, given, file)
            notes += taken
        else:
            notes += [f"warning: {file} says nothing of itself: model, size, mean, std and crop are the command's"]
    except ConfigError as error:
        faults += error.faults
    found = value_faults(config)
    basis = _basis(config, starts=True, open_data=lambda config: open_data(config, facts))
    found += basis.faults
    basis = _with_model(basis, overrides, whole and not faults and not found)
    found += basis.of_model
    taken = set(facts.options) - given if facts else ()
    cure = f"that is what {file} says: take data that fit it, or give the option"
    faults += [replace(f, cure=cure) if f.key in taken else f for f in found if f not in faults]
    try:
        if facts and basis.dataset:
            notes += compare_classes(facts, basis.dataset.class_names, config.data.name, file)
        if not faults and basis.model is not None:
            check_fit(Path(config.weights), basis.model)
    except ConfigError as error:
        faults += error.faults
    if faults or basis.model is None:
        raise ConfigError(*faults)
    return replace(_evaluation(basis.config, basis.dataset, basis.phase, overrides), notes=tuple(notes))


@dataclass(frozen=True)
class _Basis:
    """What training and evaluation have in common. phase: as if the whole run were at data.image_size. model, of_model:
    built, and what is wrong with it, once it has been looked at."""

    config: Config
    dataset: Dataset | None
    phase: Phase
    faults: list[Fault]
    model: nn.Module | None = None
    of_model: tuple[Fault, ...] = ()


def _basis(config: Config, starts: bool, open_data: Callable[[Config], Dataset] = open_of_run) -> _Basis:
    """Data, opened as far as that needs no device, and what is wrong with them and with the machine."""
    faults = (
        version_faults(jax_too=False)
        + environment_faults(os.environ)
        + folder_faults(config)
        + checkpoint_folder_faults(config)
    )
    faults += find_contradictions(config)
    config, dataset, more = decide(config, starts), None, []
    faults += runtime_faults(config, starts)
    try:
        dataset = open_data(config)
        if dataset.val.samples == 0:
            more = [Fault("data.val_examples", "0 leaves the validation set empty", "take 1 or more")]
    except ConfigError as error:
        more = list(error.faults)
    phase, of_group = decide_phase(config, Phase(0, config.train.global_batch, config.data.image_size), None)
    return _Basis(config, dataset, phase, [*faults, *of_group, *more])


def _with_model(basis: _Basis, overrides: Sequence[str], starts: bool) -> _Basis:
    """With the model built, which imports torch and timm: not where the command does not start, and says nothing of its
    model, so that a wrong option is told at once."""
    if not starts and not is_in_question(overrides):
        return basis
    config, dataset = basis.config, basis.dataset
    model, faults = build_blank(config, dataset.num_classes if dataset else config.data.num_classes or 10)
    phase, of_phase = decide_phase(config, basis.phase, model)
    return replace(basis, phase=phase, model=model, of_model=(*faults, *(f for f in of_phase if f not in basis.faults)))


def _evaluation(config: Config, dataset: Dataset, phase: Phase, overrides: Sequence[str]) -> CheckedEvaluation:
    # More than there are images would be padding and nothing else.
    wanted = min(config.eval.global_batch or config.train.global_batch, dataset.val.samples)
    batch = whole_batch(wanted, config.cluster.replicas)
    return CheckedEvaluation(tuple(overrides), config, dataset, batch, phase.fold)


def whole_batch(wanted: int, replicas: int) -> int:
    """The evaluation batch, rounded up to a multiple of the replicas: padding costs nothing but time."""
    return -(-wanted // replicas) * replicas

