"""What Hydra itself does with a command: the jobs of its sweepers and launchers; flags that show what it composes."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable

import hydra
from omegaconf import DictConfig

from xlatrain.config.choices import CONF, search_path, split_command
from xlatrain.config.compose import compose_config
from xlatrain.config.override import reason, wrong_name
from xlatrain.errors import EXIT_DONE, ConfigError, Fault

_ANSWERS = {
    "--cfg": ("job", "hydra", "all"),
    "--info": ("defaults", "defaults-tree", "config", "plugins", "searchpath", "all"),
}


def run_hydra(job: Callable[[DictConfig], float | None], arguments: list[str]) -> str:
    """Have Hydra run the jobs of a multirun, or whatever else its flags say. Returns why it ended early, in a line;
    empty if it did not."""
    argv, full = sys.argv, os.environ.get("HYDRA_FULL_ERROR")
    sys.argv, os.environ["HYDRA_FULL_ERROR"] = ["xlatrain", *arguments], "1"  # raise, do not print and exit
    try:
        hydra.main(version_base="1.3", config_path=str(CONF), config_name="config")(job)()
    except Exception as error:
        return f"{type(error).__name__}: {reason(error)}"
    finally:
        unmute()
        sys.argv = argv
        del os.environ["HYDRA_FULL_ERROR"]
        if full is not None:
            os.environ["HYDRA_FULL_ERROR"] = full
    return ""


def show_composed(question: list[str], overrides: list[str]) -> int:
    """Have Hydra print what it composes (--cfg), or how (--info). Raises ConfigError."""
    compose_config(overrides)
    for flag, what in zip(question[::2], question[1::2], strict=True):
        if what not in _ANSWERS[flag]:
            raise ConfigError(wrong_name(flag, f"there is no {what!r} to show", what, _ANSWERS[flag], f"{flag} "))
    where = [*search_path(overrides), "hydra/hydra_logging=default", "hydra/job_logging=none"]  # it prints by a log
    handlers, level = list(logging.root.handlers), logging.root.level
    unmute()
    failed = run_hydra(lambda composed: None, [*question, *where, *split_command(overrides)[1]])
    logging.root.handlers[:], logging.root.level = handlers, level
    if failed:
        raise ConfigError(
            Fault(" ".join(question), failed, "see https://hydra.cc/docs/advanced/hydra-command-line-flags")
        )
    return EXIT_DONE


def unmute() -> None:
    """Some sweepers, Optuna's among them, have Hydra switch off the loggers that are there, and warnings of all."""
    for name in logging.root.manager.loggerDict:
        if name.partition(".")[0] in ("xlatrain", "hydra"):
            logging.getLogger(name).disabled = False
    logging.root.setLevel(min(logging.root.level, logging.WARNING))
