"""The formats that weights are exported to, and what each needs."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass


@dataclass(frozen=True)
class Kind:
    """suffix: of the file that is written; "" = a folder. libraries: that have to be installed, by the names they are
    imported by, and the command that does it."""

    name: str
    suffix: str
    what: str
    libraries: tuple[str, ...] = ()
    install: str = ""

    def missing(self) -> list[str]:
        """Libraries that are not installed."""
        return [name for name in self.libraries if importlib.util.find_spec(name) is None]


TIMM = Kind("timm", "", "a folder for timm.create_model('local-dir:FOLDER', pretrained=True) and its hub")
ONNX = Kind(
    "onnx", ".onnx", "an ONNX file for any number of images", ("onnx", "onnxruntime", "onnxscript"),
    "pip install 'xlatrain[onnx]'",
)  # fmt: skip
TORCH = Kind("torch", ".pt2", "a file of torch.export for any number of images")
STABLEHLO = Kind(
    "stablehlo", "", "a folder with the forward pass as StableHLO", ("jax", "jaxlib"), "pip install 'xlatrain[jax]'"
)
KINDS = {kind.name: kind for kind in (TIMM, ONNX, TORCH, STABLEHLO)}
