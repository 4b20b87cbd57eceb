"""A folder as timm's hub has it: config.json and model.safetensors, with preprocessing and label names."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import timm
import torch
from safetensors.torch import save_file

from xlatrain.files import write_json
from xlatrain.formats.about import KEY, describe, facts_of, in_words
from xlatrain.formats.plain import plain_model
from xlatrain.preflight.checked import CheckedEvaluation
from xlatrain.preflight.weights_file import FACTS_KEY

_KEPT = ("first_conv", "classifier", "fixed_input_size")  # what timm knows of the architecture
_OF_CONFIG = ("model_name", "num_classes", "drop_rate", "drop_path_rate")  # said elsewhere, or of training alone

_README = """---
tags: [image-classification, timm]
library_name: timm
---
# {model}

```python
import timm
model = timm.create_model("local-dir:THIS_FOLDER", pretrained=True).eval()
transform = timm.data.create_transform(**timm.data.resolve_model_data_config(model))
```

Images: {words}. Trained with xlatrain on {data}; {classes} classes, named in `config.json`.
"""


def write(evaluation: CheckedEvaluation, folder: Path) -> None:
    """Write the folder, which is there and empty."""
    model, about, facts = plain_model(evaluation), describe(evaluation), facts_of(evaluation)
    p, known = about["preprocessing"], model.pretrained_cfg
    arguments = {name: value for name, value in (facts.timm or {}).items() if name not in _OF_CONFIG}
    if evaluation.config.model.bn_eps is not None:
        arguments["bn_eps"] = evaluation.config.model.bn_eps
    config = {
        "architecture": evaluation.config.model.name.partition(".")[0],
        "num_classes": about["num_classes"],
        "num_features": model.num_features,
        "label_names": about["class_names"] or None,
        "model_args": arguments,
        "pretrained_cfg": {
            **{name: known[name] for name in _KEPT if known.get(name) is not None},
            "input_size": about["input"]["shape"][1:],
            "num_classes": about["num_classes"],
            "mean": p["mean"],
            "std": p["std"],
            "interpolation": p["interpolation"],
            "crop_pct": p["crop_pct"],
            "crop_mode": "center",
        },
        KEY: about,
    }
    write_json(folder / "config.json", {name: value for name, value in config.items() if value not in (None, {})})
    tensors = {name: tensor.clone().contiguous() for name, tensor in model.state_dict().items()}
    save_file(tensors, folder / "model.safetensors", {"format": "pt", FACTS_KEY: facts.to_json()})
    text = _README.format(model=about["model"], words=in_words(about), data=about["data"], classes=about["num_classes"])
    (folder / "README.md").write_text(text)


def run(folder: Path, images: np.ndarray) -> np.ndarray:
    """The logits of the folder's model, loaded as anybody would."""
    model = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
    with torch.inference_mode():
        return model(torch.from_numpy(images)).numpy()
