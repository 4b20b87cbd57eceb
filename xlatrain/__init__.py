"""xlatrain: image classifiers on TPU pods with PyTorch/XLA, rehearsed on a laptop."""

__version__ = "0.1.0"
