"""Parts of runs that are slow on purpose, each in another place."""

import time

import numpy as np
import torch
from torch import nn
from torch.utils.data import Dataset

from tests.nets import Plain


class SlowDisk(Dataset):
    """Noise of two classes, from a disk that takes 100 ms to find an image: so long that what is read while the steps
    compile does not last."""

    num_classes = 2

    def __init__(self, split: str):
        self.split = split

    def __len__(self) -> int:
        return 32 if self.split == "train" else 8

    def __getitem__(self, number: int) -> tuple[np.ndarray, int]:
        time.sleep(0.1)
        return np.random.default_rng(number).integers(0, 256, (32, 32, 3), dtype=np.uint8), number % 2


class Heavy(nn.Module):
    """Convolutions that keep a CPU busy."""

    def __init__(self, num_classes: int):
        super().__init__()
        self.first = nn.Conv2d(3, 64, 3, padding=1)
        self.second = nn.Conv2d(64, 64, 3, padding=1)
        self.head = nn.Linear(64, num_classes)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.head(torch.relu(self.second(torch.relu(self.first(images)))).mean((2, 3)))


class SlowPython(Plain):
    """Python that takes 50 ms whenever a step is traced."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        time.sleep(0.05)
        return super().forward(images)
