"""What a run prints last is what its summary says, line by line as the README shows it."""

import re
from pathlib import Path

from xlatrain.cli.tables import print_summary

README = Path(__file__).parent.parent.parent / "README.md"


def test_every_line_that_the_readme_shows_is_printed(capsys):
    summary = {
        "top1": 0.9861, "top5": 1.0, "loss": None, "eval_examples": 360, "steps": 224, "replicas": 8,
        "images_per_second": 1189.2, "host_ms_per_step": 0.5, "data_wait_fraction": 0.0, "wall_seconds": 39.1,
        "compiles": {"train": 1, "eval": 1}, "run": "runs/a",
    }  # fmt: skip
    print_summary(summary)
    printed = dict(re.split(r"\s{2,}", line.strip(), maxsplit=1) for line in capsys.readouterr().out.splitlines())
    shown = re.search(r"^top-1 .*?(?=^```)", README.read_text(), re.M | re.S).group()
    labels = [re.split(r"\s{2,}", line)[0] for line in shown.splitlines()]
    assert set(labels) <= set(printed)
    assert (printed["waiting for data"], printed["loss"], printed["compiles"]) == ("0.0", "nan", "train 1, eval 1")
