"""The forward pass as StableHLO: a portable program, its weights, and in which order it takes them."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from xlatrain.engine.answers import build_eval_model
from xlatrain.engine.build import HostModel
from xlatrain.engine.contract import Tensors
from xlatrain.engine.step import Network
from xlatrain.engine.weights import load_weights
from xlatrain.files import write_json
from xlatrain.formats.about import KEY, as_text, describe, in_words
from xlatrain.formats.checked import CheckedExport
from xlatrain.xla.capture import CapturedStep
from xlatrain.xla.portable import run_portable
from xlatrain.xla.replica import Replica
from xlatrain.xla.stablehlo import to_portable
from xlatrain.xla.transfer import to_device

PROGRAM, WEIGHTS, MANIFEST = "forward.stablehlo", "weights.safetensors", "manifest.json"
_FORMAT, _VERSION = "xlatrain forward", 1
_PARAMETER, _BUFFER, _FROZEN = "parameter/", "buffer/", "frozen/"

_README = """# {model}: the forward pass as StableHLO

`{program}` is StableHLO in its portable form, version {version} and newer. It takes {batch} image(s) at once, float32
[{batch}, 3, {size}, {size}], and gives logits float32 [{batch}, {classes}]. `manifest.json` says in which order its
arguments come: `images`, and the tensors of `weights.safetensors`. Images: {words}.

```python
import json
import jax
import numpy as np
from jaxlib import _jax, xla_client
from safetensors.numpy import load_file

manifest, weights = json.load(open("manifest.json")), load_file("weights.safetensors")
device = jax.devices()[0]
program = device.client.compile_and_load(
    open("{program}", "rb").read(), _jax.DeviceList((device,)), xla_client.CompileOptions()
)
images = np.zeros(({batch}, 3, {size}, {size}), np.float32)  # yours
given = [images if a["name"] == "images" else weights[a["name"]] for a in manifest["arguments"]]
logits = program.execute_sharded([jax.device_put(array, device) for array in given])
print(np.asarray(logits.disassemble_into_single_device_arrays()[0][0]).argmax(1))
```

Tried with jax and jaxlib 0.7.1, of which the two names of `jaxlib` are no public ones.
"""


@dataclass(frozen=True)
class ForwardStep:
    """The forward pass. Inputs: images float32 [N, 3, H, W], and the model's tensors by their names, each with the kind
    before it. Outputs: logits float32 [N, classes]."""

    network: Network

    def __call__(self, carry: Tensors, inputs: Tensors) -> tuple[Tensors, Tensors]:
        self.network.module.eval()
        kinds = (
            {name.removeprefix(kind): tensor for name, tensor in inputs.items() if name.startswith(kind)}
            for kind in (_PARAMETER, _BUFFER, _FROZEN)
        )
        with torch.no_grad():
            return {}, {"logits": self.network.logits(inputs["images"], *kinds)}


def write(replica: Replica, export: CheckedExport, folder: Path) -> None:
    """Write the folder, which is there and empty. Layers are left as they are: other forms are for one kind of device.
    """
    evaluation = export.evaluation
    plain = replace(evaluation.config.model, depthwise="native", layout="channels_first")
    native = replace(evaluation.config, model=plain)
    model = build_eval_model(replace(evaluation, config=native, fold=False), replica)
    size, about = evaluation.config.data.image_size, describe(evaluation)
    tensors = _tensors(model, Path(evaluation.config.weights))
    inputs = {"images": torch.zeros(export.batch, 3, size, size), **tensors}
    step = CapturedStep(
        ForwardStep(Network(model.module, model.layout, native.precision.name == "bf16")), replica, "forward pass"
    )
    traced = step.export({}, to_device(inputs, replica.device))
    portable = to_portable(traced.hlo, {})
    names = [f"constant.{i}" if n == "constant" else n.removeprefix("inputs.") for i, n in enumerate(traced.parameters)]
    tensors |= {f"constant.{i}": tensor for i, tensor in traced.constants.items()}
    arguments = [{"name": n, **asdict(kind)} for n, kind in zip(names, portable.arguments, strict=True)]
    (folder / PROGRAM).write_bytes(portable.content)
    used = {name: tensors[name].detach().clone().contiguous() for name in names if name != "images"}
    save_file(used, folder / WEIGHTS, {KEY: as_text(about)})
    manifest = {"format": _FORMAT, "version": _VERSION, "program": PROGRAM, "stablehlo": portable.version}
    manifest |= {"batch": export.batch, "arguments": arguments, "results": [asdict(k) for k in portable.results]}
    write_json(folder / MANIFEST, {**manifest, KEY: about})
    text = _README.format(
        model=about["model"],
        program=PROGRAM,
        version=portable.version,
        batch=export.batch,
        size=size,
        classes=about["num_classes"],
        words=in_words(about),
    )
    (folder / "README.md").write_text(text)


def run(folder: Path, images: np.ndarray) -> np.ndarray:
    """The logits of the folder's program, by JAX: for as many images at once as it takes, the last ones padded."""
    manifest, weights = json.loads((folder / MANIFEST).read_text()), load_file(folder / WEIGHTS)
    content, batch = (folder / PROGRAM).read_bytes(), manifest["batch"]
    padded = np.concatenate([images, np.zeros((-len(images) % batch, *images.shape[1:]), images.dtype)])
    fixed = {name: tensor.numpy() for name, tensor in weights.items()}
    calls = [
        [part if a["name"] == "images" else fixed[a["name"]] for a in manifest["arguments"]]
        for part in np.split(padded, len(padded) // batch)
    ]
    return np.concatenate([results[0] for results in run_portable(content, calls)])[: len(images)]


def _tensors(model: HostModel, weights: Path) -> Tensors:
    """What the forward pass reads of the model, on the host, by name."""
    flat, layout = load_weights(weights, model.layout), model.layout
    found = {f"{_PARAMETER}{name}": tensor for name, tensor in layout.parameters.unpack(flat.params).items()}
    if layout.buffers.names:
        found |= {f"{_BUFFER}{name}": tensor for name, tensor in layout.buffers.unpack(flat.buffers).items()}
    return found | {f"{_FROZEN}{name}": tensor for name, tensor in model.frozen().items()}
