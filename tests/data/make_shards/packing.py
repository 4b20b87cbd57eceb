"""Folders and archives of small images, and `xlatrain shards` on them."""

import io
import tarfile

import numpy as np
import webdataset
from PIL import Image

from xlatrain.cli.shards import shards
from xlatrain.data.shard_format import Shard, read_index, read_shard, write_index


def encode(kind="JPEG", mode="RGB", size=(16, 12), seed=0, **options):
    random = np.random.default_rng(seed)
    pixels = Image.fromarray(random.integers(0, 256, (size[1], size[0], 3), np.uint8)).convert(mode)
    buffer = io.BytesIO()
    pixels.save(buffer, kind, **options)
    return buffer.getvalue()


def put(root, files):
    for name, data in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return root


FILES = {
    f"{split}/{name}/{i}.jpg": encode(seed=seed * 100 + i)
    for seed, (split, name, count) in enumerate(
        [("train", "cat", 7), ("train", "dog", 6), ("val", "cat", 2), ("val", "dog", 3)]
    )
    for i in range(count)
}


def run(*arguments, processes=1):
    writing = [] if arguments[0] == "info" else ["--processes", processes]
    return shards([str(a) for a in (*arguments, *writing)])


def pack(source, target, *options, **kwargs):
    return run("from-folder", source, target, "--samples-per-shard", 4, *options, **kwargs)


def content(root, split="train"):
    index = read_index(root / split)
    return {s.key: (s.image, index.class_names[s.label]) for shard in index.shards for s in read_shard(index, shard)}


def shard_bytes(root):
    return {str(p.relative_to(root)): p.read_bytes() for p in sorted(root.glob("*/*.tar"))}


def expected(split):
    of_split = {name.removeprefix(f"{split}/"): data for name, data in FILES.items() if name.startswith(f"{split}/")}
    return {name.removesuffix(".jpg"): (data, name.split("/")[0]) for name, data in of_split.items()}


def tar_of(path, files, compress=bytes):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    path.write_bytes(compress(buffer.getvalue()))
    return path


def sample(key, label="0", image=None):
    return {"__key__": key, "jpg": encode() if image is None else image, "cls": str(label).encode()}


def damaged(root, holds, **stated):
    """A split of one shard whose index says what `stated` says."""
    root.mkdir(parents=True)
    with webdataset.TarWriter(str(root / "s.tar")) as writer:
        for one in holds:
            writer.write(one)
    write_index(root, [Shard("s.tar", **({"samples": len(holds)} | stated))], ["cat", "dog"])
    return root
