"""The README.md of a bundle."""

from __future__ import annotations

from pathlib import Path

from xlatrain.bundle.manifest import Manifest
from xlatrain.words import counted

PROGRAM = Path(__file__).with_name("run.py")  # not imported: it runs

_TEXT = """# {model}, to be trained by JAX

Written by `xlatrain export step` ({versions}). It needs neither xlatrain nor torch.

| file | what is in it |
|---|---|
{files}
| `manifest.json` | arguments and results of each program in order, where they come from, what is written over; \
where the model's tensors lie in the state; options; the SHA-256 of each file |
| `run.py` | what is shown below |

The programs are for {replicas} of {share} a train step and images of {size} px, on {platform}. They are StableHLO in
its portable form, version {stablehlo}: whatever compiles that can run them as {replicas}, and the functions in them
reduce over all of them. The i-th replica takes the i-th part of each batch and the i-th of the seeds; all else is equal
on all of them. The learning rates are for {steps}; a step after those takes none that is meant.

```console
$ pip install jax==0.7.1 jaxlib==0.7.1 numpy safetensors
$ python run.py                        # three steps on noise
$ python run.py TRAIN.npz EVAL.npz     # images of yours
```

```python
{program}```
"""


def readme(manifest: Manifest) -> str:
    """What a bundle is, and the program that runs it."""
    files = []
    for name, step in manifest.steps.items():
        files.append(f"| `{step.program}` | the {name} step |")
        if step.tensors:
            files.append(f"| `{step.tensors}` | what it is first given: state, tables, constants |")
    return _TEXT.format(
        model=manifest.options["model"]["name"],
        versions=", ".join(f"{name} {number}" for name, number in manifest.versions.items()),
        files="\n".join(files),
        replicas=counted(manifest.replicas, "replica"),
        share=counted(manifest.local_batch["train"], "image"),
        size=manifest.image_size,
        platform=manifest.platform.upper(),
        stablehlo=manifest.stablehlo,
        steps=counted(manifest.total_steps, "step"),
        program=PROGRAM.read_text(),
    )
