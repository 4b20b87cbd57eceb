"""`xlatrain launch manifest`: a run as a JobSet for kubectl, on standard output."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from xlatrain.config.compose import compose_config
from xlatrain.errors import EXIT_DONE, ConfigError
from xlatrain.launching.faults import option_faults
from xlatrain.launching.manifest import manifest, manifest_faults


def print_manifest(overrides: Sequence[str]) -> int:
    """Returns the exit code. Raises ConfigError."""
    config, _ = compose_config(overrides)
    faults = [*option_faults(config), *manifest_faults(config, overrides)]
    if faults:
        raise ConfigError(*faults)
    sys.stdout.write(manifest(config, overrides))
    return EXIT_DONE
