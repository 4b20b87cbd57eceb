"""timm models, or one's own, and what XLA needs changed in them."""

import sys


def _import_timm() -> None:
    """timm imports wandb where it is installed, for a function that nothing here calls: 1.7 s of a process's start."""
    if "wandb" in sys.modules:
        return
    sys.modules["wandb"] = None  # type: ignore[assignment]
    try:
        import timm  # noqa: F401
    finally:
        del sys.modules["wandb"]


_import_timm()
