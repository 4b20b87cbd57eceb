"""A run as anyone would write it in PyTorch, on one CPU: what replicas are compared with."""

import timm
import torch
import torch.nn.functional as F

from xlatrain.data.order import Position
from xlatrain.data.phase import Place
from xlatrain.optim.schedule import learning_rate_table
from xlatrain.preflight.check import check


def plain_losses(overrides):
    """The loss of each step: timm's model, torch.optim.SGD, and nothing of xlatrain's but images and learning rates."""
    run = check(overrides)
    config = run.config
    torch.manual_seed(config.train.seed)
    model = timm.create_model(config.model.name, num_classes=run.dataset.num_classes).train()
    groups = [
        {"params": [p for p in model.parameters() if p.ndim > 1], "weight_decay": config.optimizer.weight_decay},
        {"params": [p for p in model.parameters() if p.ndim <= 1], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.SGD(groups, lr=1.0, momentum=config.optimizer.momentum, nesterov=config.optimizer.nesterov)
    mean, std = torch.tensor(config.data.mean) * 255, torch.tensor(config.data.std) * 255
    batches = run.dataset.train.train_batches(Place(0, 1), config.train.seed, run.phases, Position())
    losses = []
    for rate, batch in zip(learning_rate_table(run.schedule), batches, strict=False):
        for group in optimizer.param_groups:
            group["lr"] = rate
        images = ((batch["images"].float() - mean) / std).permute(0, 3, 1, 2)
        loss = F.cross_entropy(model(images), batch["labels"], label_smoothing=config.train.label_smoothing)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses
