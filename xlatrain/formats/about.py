"""What whoever uses an exported model has to know: what to do to an image, and what the answer means."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from xlatrain.config.data import ImagesConfig
from xlatrain.data.pixels.crop import eval_crop
from xlatrain.engine.provenance import versions
from xlatrain.models.create import timm_arguments
from xlatrain.preflight.checked import CheckedEvaluation
from xlatrain.preflight.facts import Facts, describe_weights
from xlatrain.preflight.weights_file import read_facts

KEY = "xlatrain"  # under which it is kept


def facts_of(evaluation: CheckedEvaluation) -> Facts:
    """What the weights know of themselves, with the options that they are exported by; for a file that says nothing, by
    the options alone."""
    config, data, known = evaluation.config, evaluation.dataset, read_facts(Path(evaluation.config.weights))
    arguments = known.timm if known else timm_arguments(config.model, data.num_classes, config.data.image_size)
    facts = describe_weights(config, data.num_classes, data.class_names, arguments, versions())
    return replace(known, options=facts.options) if known else facts


def describe(evaluation: CheckedEvaluation) -> dict[str, Any]:
    """Model, classes, preprocessing, input and output, as JSON has them. crop_pct: side of the centre square over the
    shorter side of the image."""
    config, facts, size = evaluation.config, facts_of(evaluation), evaluation.config.data.image_size
    data = config.data
    of_images = isinstance(data, ImagesConfig)
    return {
        "model": config.model._target_ or config.model.name,
        "class_names": list(facts.class_names or evaluation.dataset.class_names),
        "num_classes": evaluation.dataset.num_classes,
        "input": {"name": "images", "dtype": "float32", "shape": ["batch", 3, size, size]},
        "output": {"name": "logits", "dtype": "float32", "shape": ["batch", evaluation.dataset.num_classes]},
        "preprocessing": {
            "colours": "RGB",
            "crop": "centre square",
            "crop_pct": eval_crop(size, data.eval_padding, data.eval_ratio).share if of_images else 1.0,
            "image_size": size,
            "interpolation": data.interpolation if of_images else "bicubic",
            "antialias": True,
            "scale": "0..1",
            "mean": list(data.mean),
            "std": list(data.std),
        },
        "precision": config.precision.name,
        "averaged": facts.averaged,
        "data": facts.data,
        "versions": facts.versions,
    }


def in_words(about: dict[str, Any]) -> str:
    """The preprocessing in a sentence."""
    p = about["preprocessing"]
    return (
        f"{p['colours']}, centre square of {p['crop_pct']:.4g} of the shorter side, resized to {p['image_size']} px "
        f"({p['interpolation']}, antialiased), scaled to {p['scale']}, minus {p['mean']}, divided by {p['std']}"
    )


def as_text(about: dict[str, Any]) -> str:
    return json.dumps(about, sort_keys=True)
