"""A data set of torchvision's: a function brings its arguments to `split`.

    xlatrain train data=own data._target_=examples.cifar10.cifar10 data.image_size=32 +data.kwargs.root=FOLDER

Neither ToTensor nor Normalize: images go to the device as uint8, and it normalises them by data.mean and data.std.
Transforms that draw random numbers are seeded for each sample. A lambda cannot go to the replicas' processes.
"""

from torchvision.datasets import CIFAR10, VisionDataset


def cifar10(split: str, root: str, download: bool = False) -> VisionDataset:
    """The 50,000 training images, or the 10,000 others, under a folder; its `classes` are the names."""
    return CIFAR10(root, train=split == "train", download=download)
