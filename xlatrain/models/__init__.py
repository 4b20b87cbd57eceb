"""timm models, or one's own, and what XLA needs changed in them."""

import importlib.abc
import importlib.util
import sys
from importlib.machinery import ModuleSpec
from types import ModuleType


class _WithoutWandb(importlib.abc.MetaPathFinder):
    """timm imports wandb where it is installed, for a function that nothing here calls: 1.7 s of a process's start."""

    def find_spec(self, name: str, path: object, target: object = None) -> ModuleSpec | None:
        if name != "timm":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        if spec is not None and "wandb" not in sys.modules:
            execute = spec.loader.exec_module

            def exec_module(module: ModuleType) -> None:
                sys.modules["wandb"] = None  # type: ignore[assignment]
                try:
                    execute(module)
                finally:
                    del sys.modules["wandb"]

            spec.loader.exec_module = exec_module
        return spec


if "timm" not in sys.modules:
    sys.meta_path.insert(0, _WithoutWandb())
