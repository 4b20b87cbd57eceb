"""State, seeds, schedules of averaging, weights on disk: what a step carries is what the model means."""

import hashlib
import itertools
from dataclasses import replace

import pytest
import timm
import torch
from safetensors.torch import load_file, save_file

from xlatrain.engine.state import first_seed, initial_state, model_layout
from xlatrain.engine.weights import RAW_WEIGHTS, WEIGHTS, load_weights, save_weights
from xlatrain.errors import ConfigError
from xlatrain.preflight.facts import Facts
from xlatrain.preflight.weights_file import check_fit, read_facts


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return timm.create_model("test_efficientnet", num_classes=10)


def test_norms_and_biases_are_exempt_from_decay_unless_asked_for(model):
    where = model_layout(model).parameters
    exempt = dict(zip(where.names, where.shapes, strict=True))
    assert all(len(exempt[n]) > 1 for n in where.names[: where.decayed])
    assert all(len(exempt[n]) == 1 for n in where.names[where.decayed :])
    assert sorted(where.names) == sorted(n for n, _ in model.named_parameters())
    not_norm = model_layout(model, decayed="not_norm").parameters
    assert not_norm.names == where.names
    kept = not_norm.names[not_norm.decayed :]
    norms = [n for n, m in model.named_modules() if isinstance(m, torch.nn.BatchNorm2d)]
    assert sorted(kept) == sorted(f"{n}.{leaf}" for n in norms for leaf in ("weight", "bias"))
    assert model_layout(model, decayed="all").parameters.decayed == len(where.names)


def test_every_tensor_of_the_model_is_carried_or_saved(model):
    layout = model_layout(model)
    carried = {*layout.parameters.names, *layout.buffers.names, *layout.frozen, *layout.counters}
    assert carried == set(model.state_dict())
    assert layout.aliases == ()


def test_a_parameter_used_in_several_places_is_carried_once_and_saved_under_all_its_names():
    first = torch.nn.Linear(2, 2, bias=False)
    assert model_layout(torch.nn.Sequential(first, first)).aliases == (("1.weight", "0.weight"),)


def test_a_model_without_batch_norm_has_no_buffers_to_carry():
    layout = model_layout(timm.create_model("test_vit", num_classes=10))
    assert layout.buffers.names == ()
    assert layout.buffers.pack({}).shape == (0,)


def test_replicas_and_runs_get_seeds_far_apart():
    seeds = sorted(first_seed(s, r) for s in range(30) for r in range(64))
    assert len(set(seeds)) == len(seeds)
    assert min(b - a for a, b in itertools.pairwise(seeds)) > 10**9  # steps count up from them by one
    assert 0 <= seeds[0] < seeds[-1] < 2**62


FACTS = Facts(True, {"model_name": "test_efficientnet"}, {"data.mean": [0.1, 0.2, 0.3]}, ("a", "b"), "mine", {"x": "1"})


@pytest.mark.parametrize("ema", [True, False])
def test_weights_go_to_disk_and_back_and_load_into_timm(model, tmp_path, ema):
    layout = model_layout(model)
    state = initial_state(model, layout, {"momentum": 0.0}, ema, rng=1)
    if ema:
        state = replace(state, ema_params=state.ema_params + 1.0)
    digests = save_weights(tmp_path, state, layout, {}, FACTS)
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(digests) == [WEIGHTS, RAW_WEIGHTS][: 1 + ema]
    loaded = load_weights(tmp_path / WEIGHTS, layout)
    rows = layout.parameters.unpack(loaded.params)
    expected = layout.parameters.unpack(state.ema_params if ema else state.params)
    assert all(torch.equal(rows[n], expected[n]) for n in rows)
    assert torch.equal(loaded.buffers, state.buffers)
    assert read_facts(tmp_path / WEIGHTS) == FACTS
    for name in digests:
        timm.create_model("test_efficientnet", num_classes=10).load_state_dict(load_file(tmp_path / name), strict=True)
        timm.create_model("test_efficientnet", num_classes=10, checkpoint_path=str(tmp_path / name))
    if ema:
        assert torch.equal(load_weights(tmp_path / RAW_WEIGHTS, layout).params, state.params)
        assert not read_facts(tmp_path / RAW_WEIGHTS).averaged


def test_the_same_weights_are_the_same_bytes_and_others_are_not(model, tmp_path):
    """A checksum then tells whether a run was reproduced. The writer puts metadata keys in random order."""
    layout = model_layout(model)
    state = initial_state(model, layout, {}, False, 0)
    digests = set()
    for number in range(4):
        (folder := tmp_path / str(number)).mkdir()
        digest = save_weights(folder, state, layout, {}, FACTS)[WEIGHTS]
        assert digest == hashlib.sha256((folder / WEIGHTS).read_bytes()).hexdigest()
        digests.add(digest)
    assert len(digests) == 1
    state.params[0] += 1e-6
    assert save_weights(tmp_path, state, layout, {}, FACTS)[WEIGHTS] not in digests


def test_weights_of_another_model_or_a_broken_file_are_refused(model, tmp_path):
    layout = model_layout(model)
    path = tmp_path / WEIGHTS
    save_weights(tmp_path, initial_state(model, layout, {}, False, 0), layout, {}, FACTS)
    other = timm.create_model("test_efficientnet", num_classes=7)
    with pytest.raises(ConfigError, match=r"classifier.weight has shape \[10, 256\] there, \[7, 256\] here"):
        check_fit(path, other)
    tensors = load_file(path)
    save_file(tensors | {"blocks.9.weight": torch.zeros(1)}, path)
    with pytest.raises(ConfigError, match=r"the model, which has no blocks\.9\.weight"):
        check_fit(path, model)
    save_file(tensors, path, {"xlatrain": '{"averaged": true}'})
    with pytest.raises(ConfigError, match="cannot be read"):
        read_facts(path)
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(ConfigError, match="cannot be read"):
        load_weights(path, layout)


def test_files_that_say_nothing_of_themselves_still_load(model, tmp_path):
    """Those of timm, and those that held the unaveraged weights too."""
    layout = model_layout(model)
    save_file({**model.state_dict(), "raw.classifier.bias": torch.zeros(10)}, tmp_path / WEIGHTS, {"model": "x"})
    assert read_facts(tmp_path / WEIGHTS) is None
    assert torch.equal(load_weights(tmp_path / WEIGHTS, layout).params, layout.parameters.pack(model.state_dict()))
