"""The layer that makes logits."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn


class Float32EvalLinear(nn.Module):
    """Takes over a Linear, keeping its parameters; its evaluation is in float32 also under bf16 autocast.

    Input [N, C], output [N, classes]. Logits in bf16 have three digits, so that many are equal and their rank is a
    guess. A TPU multiplies in bf16 and sums in float32 either way: the digits are there, and cost nothing to keep.
    Training is as autocast has it.
    """

    def __init__(self, linear: nn.Linear):
        super().__init__()
        self.weight, self.bias = linear.weight, linear.bias

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.training:
            return F.linear(x, self.weight, self.bias)
        with torch.autocast(x.device.type, enabled=False):
            return F.linear(x.float(), self.weight, self.bias)


def convert_classifier(model: nn.Module) -> bool:
    """Replace a model's classifier, in place, where it is one linear layer; says whether it was."""
    classifier = _classifier(model)
    names = [name for name, module in model.named_modules() if module is classifier]
    if type(classifier) is not nn.Linear or not names:
        return False
    parent, _, leaf = names[0].rpartition(".")
    setattr(model.get_submodule(parent), leaf, Float32EvalLinear(classifier))
    return True


def last_layer(model: nn.Module) -> tuple[str, ...]:
    """The names of the classifier's parameters."""
    classifier = _classifier(model)
    if classifier is None:
        return ()
    mine = {id(p) for p in classifier.parameters()}
    return tuple(name for name, p in model.named_parameters() if id(p) in mine)


def _classifier(model: nn.Module) -> nn.Module | None:
    """What timm calls the classifier of a model; None where there is none, or several."""
    found = model.get_classifier() if hasattr(model, "get_classifier") else None
    return found if isinstance(found, nn.Module) else None


def head_names(model: nn.Module) -> frozenset[str]:
    """The names of the parameters of a model's head: of what timm calls its classifier, or its several; of a model that
    does not say, of its last linear layer."""
    told = (getattr(model, "pretrained_cfg", None) or {}).get("classifier") or ()
    prefixes = [told] if isinstance(told, str) else list(told)
    found = {name for name, _ in model.named_parameters() if any(name.startswith(f"{p}.") for p in prefixes)}
    if found or (found := set(last_layer(model))):
        return frozenset(found)
    linear = [name for name, module in model.named_modules() if isinstance(module, nn.Linear)]
    return frozenset(name for name, _ in model.named_parameters() if name.rpartition(".")[0] in linear[-1:])
