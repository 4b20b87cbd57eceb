"""Pictures, drawn without a screen."""

from __future__ import annotations

from types import ModuleType


def pyplot() -> ModuleType:
    """matplotlib's pyplot; imported by who draws, when he does, since that takes a second."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    return pyplot
