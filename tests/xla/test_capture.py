"""The captured step: replayed equals traced, random numbers move on, every way to break its rules is named."""

import pytest
import torch

from xlatrain.xla.launch import launch

pytestmark = pytest.mark.replicas


@pytest.fixture(scope="module", params=["torch_xla", "jax"])
def runtime(request, tmp_path_factory):
    if request.param == "jax":
        pytest.importorskip("jax")
    with pytest.MonkeyPatch.context() as patch:  # nothing was compiled before
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield request.param


@pytest.fixture(scope="module")
def runs(runtime):
    return launch("tests.replica_jobs:run_capture", replicas=2, runtime=runtime)["by_replica"]


def test_replayed_equals_traced_to_the_last_bit(runs):
    for result in runs:
        assert result["replayed"]["losses"] == result["traced"]["losses"]
        assert torch.equal(result["replayed"]["weight"], result["traced"]["weight"])
        assert result["replayed"]["rng"] == result["traced"]["rng"]
        assert (result["replayed"]["captures"], result["traced"]["captures"]) == (1, 5)


def test_all_replicas_share_one_compile_whatever_values_pass_through(runs):
    """The rate is 0, 0.5, 1, 0, 0.5: Python scalars of 0 and 1 would be baked in, tensors are not. Tracing again finds
    the graph compiled, whatever was traced before; another shape is one compile more."""
    assert runs[0]["compiles"] == {True: 1, False: 0, "two shapes": 1}


def test_one_replica_of_a_process_traces_for_all(runs):
    """Once for each shape, and without replay at each of five steps."""
    assert [result["traces"] for result in runs] == [[1, 5, 2]] * 2


def test_random_masks_differ_from_step_to_step_and_from_replica_to_replica(runs):
    masks = [m for result in runs for m in result["replayed"]["masks"]]
    assert len({tuple(m.flatten().tolist()) for m in masks}) == len(masks) == 10


def test_replicas_stay_equal(runs):
    assert torch.equal(runs[0]["replayed"]["weight"], runs[1]["replayed"]["weight"])
    assert runs[0]["replayed"]["losses"] != runs[1]["replayed"]["losses"]  # they did see different data


def test_another_batch_shape_is_captured_once_and_said(runs):
    again = [text for text in runs[0]["said"] if "compiling" in text and "again" in text]
    assert len(again) == 1
    assert "[6, 5]" in again[0]


@pytest.fixture(scope="module")
def messages(runtime):
    return launch("tests.replica_jobs:run_errors", replicas=1, runtime=runtime)


@pytest.mark.parametrize(
    ("function", "words"),
    [
        ("reads_host", ["reads a device value on the host", "replica_jobs.py", "float(inputs"]),
        ("branches", ["reads a device value on the host", "if inputs"]),
        ("falls_back", ["fall back to the CPU", "aten::special_i1e", "replica_jobs.py"]),
        ("changes_inputs", ["changes its arguments in place", "inputs.x"]),
        ("changes_carry", ["changes carry 'a'", "[2]", "[4]"]),
        ("loses_carry", ["must return the carry", "'a'"]),
        ("draws", ["draws random numbers", "'rng'"]),
        ("captures", ["not among its arguments", "float32[2]", 'carry["a"] + outside']),
    ],
)
def test_breaking_a_rule_is_an_error_that_names_it(messages, function, words):
    assert messages[function] is not None, f"{function} was captured without complaint"
    for word in words:
        assert word in messages[function]


def test_jax_updates_the_carry_in_place():
    pytest.importorskip("jax")
    result = launch("tests.replica_jobs:run_donation", replicas=1, runtime="jax")
    assert len(set(result["places"][1:])) == 1
    assert all(result["gone"])
    assert result["a"] == [16.0, 16.0]
