"""The model of some weights as plain torch has it, without what is changed in it for XLA."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from torch import nn

from xlatrain.engine.augment import normalise
from xlatrain.models.create import build_model
from xlatrain.preflight.checked import CheckedEvaluation
from xlatrain.preflight.weights_file import readable


def plain_model(evaluation: CheckedEvaluation) -> nn.Module:
    """On the CPU, float32, in evaluation mode: float32 [N, 3, H, W] to logits float32 [N, classes]."""
    config = evaluation.config
    model = build_model(config.model, evaluation.dataset.num_classes, config.data.image_size, config.train.seed)
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and config.model.bn_eps is not None:
            module.eps = config.model.bn_eps
    with readable(path := Path(config.weights)):
        model.load_state_dict(load_file(path), strict=False)  # preflight saw that it fits
    return model.eval().requires_grad_(False)


def prepared(evaluation: CheckedEvaluation, images: np.ndarray) -> np.ndarray:
    """Images uint8 [N, H, W, 3] as a model takes them: float32 [N, 3, H, W]."""
    mean, std = torch.tensor(evaluation.config.data.mean), torch.tensor(evaluation.config.data.std)
    return normalise(torch.from_numpy(images), mean, std).contiguous().numpy()
