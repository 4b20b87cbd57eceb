"""A model's layers by name: which of its tensors stay as they are, and how fast each layer learns."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from timm.models import group_parameters
from timm.optim import param_groups_layer_decay
from torch import nn

from xlatrain.models.classifier import head_names

BODY = "body"


@dataclass(frozen=True)
class Frozen:
    """parameters: names of those that stay. norms: names of the batch norms whose statistics stay too."""

    parameters: frozenset[str] = frozenset()
    norms: frozenset[str] = frozenset()


NOTHING = Frozen()


def find_frozen(model: nn.Module, words: Sequence[str]) -> Frozen:
    """What words say of a model: names of its modules and parameters, `stem`, `stage1`, ..., `body`. A batch norm stays
    when all its parameters do. A parameter that is used in several places has all their names. Raises ValueError for a
    word that is none of these."""
    if not words:
        return NOTHING
    everything = dict(model.named_parameters(remove_duplicate=False))
    names, chosen, modules = stages(model), set(), []
    for word in words:
        found = {n for n in everything if n == word or n.startswith(f"{word}.")} or names.get(word, set())
        if not found and word not in dict(model.named_modules()):
            raise ValueError(_no_such(word, [*names, *(n for n, _ in model.named_modules() if n), *everything]))
        chosen |= found
        modules.append(word)
    same = {id(everything[name]) for name in chosen}
    parameters = frozenset(name for name, p in model.named_parameters() if id(p) in same)
    norms = set()
    for prefix, module in model.named_modules():
        if not isinstance(getattr(module, "running_mean", None), torch.Tensor):
            continue
        own = [id(p) for p in module.parameters(recurse=False)]
        named = any(prefix == word or prefix.startswith(f"{word}.") for word in modules)
        if all(p in same for p in own) if own else named:
            norms.add(prefix)
    if not parameters and not norms:
        raise ValueError(f"{', '.join(words)} has no parameters that could stay")
    return Frozen(parameters, frozenset(norms))


def stages(model: nn.Module) -> dict[str, set[str]]:
    """The names of a model's parameters by stage: `body`, all but the head, and, of a model of timm's, `stem` and
    `stage1`, `stage2`, ... in its order, by timm's coarse groups."""
    head = head_names(model)
    body = [name for name, _ in model.named_parameters() if name not in head]
    found = {BODY: set(body)}
    if hasattr(model, "group_matcher"):
        groups = group_parameters(model, model.group_matcher(coarse=True), reverse=True)
        order = sorted({groups[name] for name in body})
        for number, group in enumerate(order):
            found[f"stage{number}" if number else "stem"] = {name for name in body if groups[name] == group}
    return found


def layer_scales(model: nn.Module, decay: float) -> dict[str, float]:
    """The factor on the learning rate of each parameter, by timm's param_groups_layer_decay: 1 of the last layer, decay
    times that of the next of each before it. Raises ValueError for a model of which timm tells no layers."""
    names = {id(p): name for name, p in model.named_parameters()}
    groups = param_groups_layer_decay(model, layer_decay=decay)
    scales = {names[id(p)]: group["lr_scale"] for group in groups for p in group["params"]}
    if len(set(scales.values())) == 1 and decay != 1:
        raise ValueError("all its parameters are one layer: it has no group_matcher, as models of timm's have")
    return scales


def _no_such(word: str, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(word, known, n=3, cutoff=0.5)
    listed = ", ".join(near or [name for name in known if "." not in name][:8])
    return f"the model has no {word!r}; {'the nearest are' if near else 'it has'} {listed}"
