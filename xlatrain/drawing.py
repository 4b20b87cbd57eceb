"""Pictures, drawn without a screen."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

from xlatrain.errors import Fault
from xlatrain.out_path import file_faults


def pyplot() -> ModuleType:
    """matplotlib's pyplot; imported by who draws, when he does, since that takes a second."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    return pyplot


def picture_faults(path: Path) -> list[Fault]:
    """Whether a picture can be written there."""
    if path.suffix not in (".png", ".svg", ".pdf"):
        return [Fault("out", f"{path} is no picture", "give out=FILE.png, .svg or .pdf")]
    return file_faults(path)
