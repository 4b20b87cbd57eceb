"""The verb `predict`: images to a file of classes and probabilities."""

from __future__ import annotations

import os
from collections.abc import Sequence

from xlatrain.cli.tables import print_summary
from xlatrain.cli.verbs import take_flags
from xlatrain.data.listing import is_address
from xlatrain.engine.predict import predict as run
from xlatrain.errors import EXIT_DONE, ConfigError
from xlatrain.preflight.prediction import check_prediction
from xlatrain.xla import fork_server


def predict(arguments: Sequence[str]) -> int:
    """`xlatrain predict weights=FILE out=FILE PATH... [overrides]`. Raises ConfigError."""
    flags, others = take_flags("predict", arguments)
    paths = [word for word in others if is_path(word)]
    overrides = [word for word in others if word not in paths]
    checked = fork_server.call(check_prediction, overrides, paths, flags.get("out"), told=ConfigError)
    print_summary(run(checked))
    return EXIT_DONE


def is_path(word: str) -> bool:
    """Whether an argument names images: it is there, or an address, or sets nothing and is no flag."""
    return os.path.exists(word) or is_address(word) or ("=" not in word and not word.startswith("-"))
