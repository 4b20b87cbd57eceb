"""Variables that would change the numbers behind a run's back."""

from __future__ import annotations

from collections.abc import Mapping

from xlatrain.errors import Fault


def environment_faults(variables: Mapping[str, str]) -> list[Fault]:
    """Those that are set."""
    return [
        Fault(
            f"environment variable {name}",
            "is set; it would silently turn float32 state into bf16",
            f"unset {name}; use precision=bf16",
        )
        for name in ("XLA_USE_BF16", "XLA_DOWNCAST_BF16")
        if variables.get(name, "0") != "0"
    ]
