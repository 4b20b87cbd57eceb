"""The 1,797 handwritten digits that scikit-learn carries (UCI Optical Recognition, 8 x 8 pixels), as shards."""

from __future__ import annotations

import io
import shutil
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

from xlatrain.data.shard_format import write_shards
from xlatrain.files import user_cache

SAMPLES = 1797
CLASS_NAMES = [str(d) for d in range(10)]


def default_root(val_fraction: float) -> Path:
    """Where the shards are kept when no folder is named; one folder for each split."""
    return user_cache() / f"digits-{val_fraction:g}"


def write_digits(root: Path, val_fraction: float) -> None:
    """Write train/ and val/ under `root`, split by class with a fixed seed. Does nothing when they are there."""
    if all((root / name / "index.json").exists() for name in ("train", "val")):
        return
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    digits = load_digits()
    train, val = train_test_split(np.arange(SAMPLES), test_size=val_fraction, stratify=digits.target, random_state=0)
    root.parent.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(prefix=f"{root.name}-", dir=root.parent))
    try:
        for name, members in (("train", train), ("val", val)):
            samples = ((f"{i:04d}", "png", _png(digits.images[i]), int(digits.target[i])) for i in members)
            write_shards(draft / name, samples, CLASS_NAMES, samples_per_shard=200)
        root.mkdir(exist_ok=True)
        for name in ("train", "val"):
            if not (root / name).exists():
                (draft / name).replace(root / name)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _png(digit: np.ndarray) -> bytes:
    """A digit [8, 8] of values 0..16 as an 8-bit gray PNG."""
    buffer = io.BytesIO()
    Image.fromarray(np.uint8(np.round(digit * 255 / 16)), "L").save(buffer, "PNG")
    return buffer.getvalue()
