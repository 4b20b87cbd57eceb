"""The input path against PIL's: images a second of one core, and how far the pixels are apart. With --workers: the
worker processes against torch's DataLoader.

    python benchmarks/input_pipeline.py [--data FOLDER_OR_TAR_OR_SHARDS] [--size 224] [--passes 7] [--json FILE]
                                        [--workers 2 --batch 64 --batches 12]

Methods, interleaved pass by pass, with the same crops (torchvision's RandomResizedCrop) and flips, on one core, in
processor time of the processes; each writes uint8 [S, S, 3] to a row of a batch that is there already:
pil       what timm and torchvision do: PIL decode, crop, bicubic resize, flip
ours      xlatrain's decoder with simplejpeg, which the package needs anyway
fast      the same with nvimgcodec, the extra fast-decode (null without it)
pipeline  all of it as training runs it: a worker process, tar shards to ready batches in shared memory, the best
          decoder that is installed; without the flip, which is on the device
limit     libjpeg-turbo decoding of the crop alone, by whichever of the two is faster: no resize, no flip

mean_abs_diff, max_abs_diff: of ours to PIL, in levels of 0..255, over all pixels of all images.

Without --data, photographs like ImageNet's are made of scikit-learn's two.

Evidence: one core of a virtual machine (2 cores, AMD EPYC), Pillow 13.0, torchvision 0.24.1, simplejpeg 1.9.0,
nvimgcodec 0.9.0, 20 Nov 2026, seed 0, images/s/core, median of 7 passes, each run once in this form:

                                    pil    ours          fast          pipeline  of fast  limit
    334 ImageNet photographs        522    1,030 (1.97)  1,170 (2.24)  1,081     0.92     1,383
    default (scikit-learn's two)    713    1,470 (2.06)  1,616 (2.27)  1,547     0.96     2,035

Other runs of the same day, with other jobs on the machine: ours 1.93 to 2.09, fast 2.13 to 2.36 times PIL. What is left
between fast and limit is the resize. Difference to PIL: 0.003 in the mean, 2 at most. Not run: on a TPU VM, on aarch64.
"""

from __future__ import annotations

import argparse
import io
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from worker_pool import PREFETCH, compare_pools, processor_seconds, write_stream

from xlatrain.data.pixels.crop import Box, CentreCrop, RandomCrop
from xlatrain.data.pixels.decode import Decoder
from xlatrain.data.shard_format import read_index, read_shard
from xlatrain.data.storage.tar import read_members
from xlatrain.data.workers import WorkerBatches
from xlatrain.files import write_json

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")
BATCH = 64


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder of images, tar of images, or folder of shards")
    parser.add_argument("--size", type=int, default=224, help="pixels that the model sees")
    parser.add_argument("--passes", type=int, default=7)
    parser.add_argument("--most", type=int, default=1000, help="images at most")
    parser.add_argument("--seed", type=int, default=0, help="of crops and flips")
    parser.add_argument("--json", type=Path, help="write the figures here")
    parser.add_argument("--workers", type=int, help="compare so many worker processes with torch's DataLoader instead")
    parser.add_argument("--batch", type=int, default=BATCH, help="images of a batch, with --workers")
    parser.add_argument("--batches", type=int, default=12, help="of a pass, with --workers")
    arguments = parser.parse_args()
    images = load(arguments.data, arguments.most)
    torch.set_num_threads(1)
    if arguments.workers:
        a = arguments
        figures = compare_pools(images, a.size, a.batch, a.workers, a.passes, a.batches)
        show_pools(figures)
    else:
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
        figures = compare(images, arguments.size, arguments.passes, arguments.seed)
        show(figures)
    if arguments.json:
        write_json(arguments.json, figures)


def load(path: Path | None, most: int) -> list[bytes]:
    """Encoded images."""
    if path is None:
        return make_photos()
    if path.is_dir():
        index = next((p for p in (path / "train/index.json", path / "index.json") if p.exists()), None)
        if index:
            shards = read_index(index.parent)
            return [s.image for shard in shards.shards for s in read_shard(shards, shard)][:most]
        found = sorted(p for p in path.rglob("*") if p.suffix.lower() in SUFFIXES)[:most]
        images = [p.read_bytes() for p in found]
    else:
        with open(path, "rb") as file:
            images = [m.data for m in read_members(file) if m.name.lower().endswith(SUFFIXES)][:most]
    if not images:
        raise SystemExit(f"no images in {path}")
    return images


def make_photos(count: int = 96) -> list[bytes]:
    """Cuttings of scikit-learn's sample photographs, of ImageNet's sizes (mean 472 x 399) and about its quality."""
    from sklearn.datasets import load_sample_images

    random, made = np.random.default_rng(0), []
    for i in range(count):
        photo = Image.fromarray(load_sample_images().images[i % 2])
        scale = random.uniform(0.55, 0.98)
        width, height = int(photo.width * scale), int(photo.height * scale)
        left, top = (int(random.integers(0, n + 1)) for n in (photo.width - width, photo.height - height))
        buffer = io.BytesIO()
        photo.crop((left, top, left + width, top + height)).save(buffer, "JPEG", quality=95)
        made.append(buffer.getvalue())
    return made


def compare(images: list[bytes], size: int, passes: int, seed: int) -> dict:
    """Time each method `passes` times over all images, in turns; compare ours with PIL pixel by pixel."""
    crop = RandomCrop(CentreCrop(size, 32), 0.08, "torchvision")
    random = np.random.default_rng(seed)
    sizes = [Image.open(io.BytesIO(i)).size for i in images]
    sets = [[(crop(height, width, random), random.random() < 0.5) for width, height in sizes] for _ in range(passes)]
    batch = np.zeros((BATCH, size, size, 3), np.uint8)
    ours, fast = Decoder(fast=False), Decoder()
    methods: dict[str, Callable[[bytes, Box, bool, np.ndarray], None]] = {"pil": pil_path, "ours": our_path(ours)}
    if fast.name == "nvimgcodec":
        methods["fast"] = our_path(fast)
    methods["limit"] = decode_only(fast)
    speeds: dict[str, list[float]] = {name: [] for name in [*methods, "pipeline"]}
    with tempfile.TemporaryDirectory() as folder:
        pipeline = open_pipeline(Path(folder), images, size, seed)
        for crops in sets:
            for name, method in methods.items():
                started = time.process_time()
                for i, (encoded, (box, flip)) in enumerate(zip(images, crops, strict=True)):
                    method(encoded, box, flip, batch[i % BATCH])
                speeds[name].append(len(images) / (time.process_time() - started))
            speeds["pipeline"].append(pipeline(len(images)))
    speed = {name: statistics.median(values) for name, values in speeds.items()}
    mean, most = difference(images, sets[0], size, ours)
    return {
        **{f"{name}_images_per_s": round(speed[name], 1) if name in speed else None for name in
           ("pil", "ours", "fast", "pipeline", "limit")},
        "ours_over_pil": round(speed["ours"] / speed["pil"], 3),
        "fast_over_pil": round(speed["fast"] / speed["pil"], 3) if "fast" in speed else None,
        "pipeline_over_decode": round(speed["pipeline"] / speed.get("fast", speed["ours"]), 3),
        "mean_abs_diff": mean,
        "max_abs_diff": most,
        "images": len(images),
        "megapixels": round(statistics.fmean(w * h for w, h in sizes) / 1e6, 3),
        "kilobytes": round(statistics.fmean(map(len, images)) / 1e3, 1),
        "size": size,
        "passes": passes,
        "spread": {name: [round(min(v), 1), round(max(v), 1)] for name, v in speeds.items()},
    }  # fmt: skip


def pil_path(encoded: bytes, box: Box, flip: bool, row: np.ndarray) -> None:
    """torchvision's resized_crop and hflip on PIL images, which timm's transforms call."""
    from torchvision.transforms import InterpolationMode
    from torchvision.transforms import functional as F

    image = F.resized_crop(
        Image.open(io.BytesIO(encoded)).convert("RGB"), *box, list(row.shape[:2]), InterpolationMode.BICUBIC
    )
    row[:] = np.asarray(F.hflip(image) if flip else image)


def our_path(decoder: Decoder) -> Callable[[bytes, Box, bool, np.ndarray], None]:
    def path(encoded: bytes, box: Box, flip: bool, row: np.ndarray) -> None:
        decoder(encoded, lambda height, width: box, row)
        if flip:
            row[:] = torch.from_numpy(row).flip(1).numpy()

    return path


def decode_only(decoder: Decoder) -> Callable[[bytes, Box, bool, np.ndarray], None]:
    def path(encoded: bytes, box: Box, flip: bool, row: np.ndarray) -> None:
        decoder.crop(encoded, lambda height, width: box)

    return path


def open_pipeline(folder: Path, images: list[bytes], size: int, seed: int) -> Callable[[int], float]:
    """The images as shards, read as training reads them. Returns a function: images per second over the next n."""
    batches = WorkerBatches(write_stream(folder, images, size, BATCH, 1, seed), 1, PREFETCH)
    workers = batches.pids()

    def run(count: int) -> float:
        for _ in range(PREFETCH + 1):  # what was made ahead while other methods ran does not count
            next(batches)
        started, done = processor_seconds(workers), 0
        while done < 2 * count:
            done += len(next(batches)["labels"])
        return done / (processor_seconds(workers) - started)

    return run


def difference(images: list[bytes], crops: list, size: int, decoder: Decoder) -> tuple[float, int]:
    """Mean and largest difference of a level between ours and PIL's."""
    one, other = (np.empty((size, size, 3), np.uint8) for _ in range(2))
    total, most = 0.0, 0
    for encoded, (box, flip) in zip(images, crops, strict=True):
        pil_path(encoded, box, flip, one)
        our_path(decoder)(encoded, box, flip, other)
        gap = np.abs(one.astype(np.int16) - other)
        total, most = total + float(gap.mean()), max(most, int(gap.max()))
    return round(total / len(images), 5), most


def show(figures: dict) -> None:
    print(
        f"{figures['images']} images of {figures['megapixels']} MP, {figures['kilobytes']} KB, to {figures['size']} px"
    )
    for name in ("pil", "ours", "fast", "pipeline", "limit"):
        speed = figures[f"{name}_images_per_s"]
        if speed is None:
            print(f"{name:9} not installed")
            continue
        low, high = figures["spread"][name]
        print(f"{name:9} {speed:8.1f} images/s/core  {speed / figures['pil_images_per_s']:.2f} x PIL  [{low}..{high}]")
    print(f"pipeline / decode+crop+resize+flip: {figures['pipeline_over_decode']}")
    print(f"difference to PIL: mean {figures['mean_abs_diff']}, largest {figures['max_abs_diff']} of 255")


def show_pools(figures: dict) -> None:
    for name, f in figures.items():
        low, high = f["spread_core"]
        print(
            f"{name:7} {f['images_per_s']:9,.1f} images/s  {f['images_per_s_core']:9,.1f} /s/core  ours over it "
            f"{f['ours_over_it']:.2f}, /core {f['ours_over_it_core']:.2f} [{low:.2f}..{high:.2f}]  "
            f"start {f['start_s']:.2f} s  workers {f['workers_mb']} MB  death {f['death_s']:.2f} s"
        )
        for error, times in f["death_says"].items():
            print(f"        {times} x {error}")


if __name__ == "__main__":
    main()
