"""The meter means and counts."""

import math

from xlatrain.checkpoint.manifest import Manifest
from xlatrain.engine.meter import Meter


def test_the_meter_means_over_the_interval_and_counts_over_the_run():
    meter = Meter()
    row = {
        "loss": 1.0,
        "top1": 0.5,
        "skipped_samples": 0.125,
        "lr": 0.1,
        "grad_norm": 2.0,
        "skipped_steps": 0,
        "skipped_in_a_row": 0,
    }
    for loss in (1.0, 2.0, 6.0):
        meter.step({**row, "loss": loss}, 8)
    assert meter.interval()["loss"] == 3.0
    meter.step({**row, "loss": 5.0, "skipped_steps": 2, "lr": 0.3}, 8)
    last = meter.interval()
    assert (last["loss"], last["lr"], last["skipped_samples"], last["skipped_steps"]) == (5.0, 0.3, 4, 2)


def test_a_meter_goes_on_from_what_another_counted():
    row = {"loss": 0.0, "top1": 0.5, "grad_norm": math.nan, "lr": 0.1, "skipped_samples": 0.25, "skipped_in_a_row": 0}
    rows = [{**row, "loss": float(i), "skipped_steps": i} for i in range(1, 8)]
    whole, first, second = Meter(), Meter(), Meter()
    for values in rows:
        whole.step(values, 8)
    for values in rows[:5]:
        first.step(values, 8)
    manifest = Manifest(5, 0, "0" * 64, {"meter": first.state()})
    second.restore(Manifest.parse(manifest.to_json(), manifest.name).facts["meter"])
    for values in rows[5:]:
        second.step(values, 8)
    wanted, found = whole.interval(), second.interval()
    for name in ("loss", "top1", "lr", "skipped_steps", "skipped_samples"):
        assert found[name] == wanted[name]
    assert math.isnan(found["grad_norm"])
    assert second.totals()["train_skipped_samples"] == whole.totals()["train_skipped_samples"] == 14
    assert second.state()["images"] == 56
