"""The meter means and counts."""

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
