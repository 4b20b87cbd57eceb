"""Data of your own: a torch Dataset of (image, label), images as PIL images or uint8.

    xlatrain train data=own data._target_=examples.stripes.Stripes data.image_size=32 train.duration=5ep

It is called once with split="train" and once with split="val", beside what is under data.kwargs. Samples are had by
their number, so epochs are shuffled, cut for processes and taken up again as those of shards are; `data.workers`
processes read them. Images of other sizes are cropped and resized as photographs are; `augment` is as always.
"""

import numpy as np
from torch.utils.data import Dataset


class Stripes(Dataset):
    """Noise with stripes in one of four directions, which is the class."""

    classes = ("horizontal", "vertical", "falling", "rising")  # or num_classes, or the option data.num_classes

    def __init__(self, split: str, samples: int = 1024, size: int = 40):
        self.first, self.samples, self.size = (0 if split == "train" else samples), samples, size

    def __len__(self) -> int:
        return self.samples

    def __getitem__(self, number: int) -> tuple[np.ndarray, int]:
        random = np.random.default_rng(self.first + number)
        label = int(random.integers(4))
        y, x = np.mgrid[: self.size, : self.size]
        along = (y, x, x + y, x - y)[label]
        light = np.sin(along * random.uniform(0.6, 1.2) + random.uniform(0, 6)) * 60 + random.normal(128, 25, x.shape)
        return np.repeat(light.clip(0, 255).astype(np.uint8)[..., None], 3, axis=2), label
