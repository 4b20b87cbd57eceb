"""Tensors to a safetensors file one after the other, each let go of when it is written, and back."""

from __future__ import annotations

import hashlib
import json
import struct
from typing import TYPE_CHECKING, BinaryIO

if TYPE_CHECKING:
    import torch

Tensors = dict[str, "torch.Tensor"]

_PIECE = 16 << 20
_TYPES = {
    "torch.float64": "F64",
    "torch.int64": "I64",
    "torch.float32": "F32",
    "torch.int32": "I32",
    "torch.bfloat16": "BF16",
    "torch.float16": "F16",
    "torch.uint8": "U8",
    "torch.bool": "BOOL",
}


def write_tensors(file: BinaryIO, tensors: Tensors) -> tuple[int, str]:
    """Write tensors on the host; returns the bytes written and their SHA-256. Empties `tensors` on the way, so that
    memory comes free while the disk is slow. The header, which is first, needs shapes only; so nothing is copied."""
    import torch

    names = sorted(tensors, key=lambda name: (-tensors[name].element_size(), name))  # so that each is aligned
    header, start = {}, 0
    for name in names:
        tensor = tensors[name]
        end = start + tensor.numel() * tensor.element_size()
        header[name] = {"dtype": _TYPES[str(tensor.dtype)], "shape": list(tensor.shape), "data_offsets": [start, end]}
        start = end
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    digest, size = hashlib.sha256(), 0
    for part in (struct.pack("<Q", len(text)), text):
        file.write(part)
        digest.update(part)
        size += len(part)
    for name in names:
        values = memoryview(tensors.pop(name).contiguous().reshape(-1).view(torch.uint8).numpy())
        for first in range(0, len(values), _PIECE):
            piece = values[first : first + _PIECE]
            file.write(piece)
            digest.update(piece)
        size += len(values)
    return size, digest.hexdigest()


def checksum(file: BinaryIO) -> tuple[int, str]:
    """Bytes and SHA-256 of what a file still holds, read piece by piece."""
    digest, size = hashlib.sha256(), 0
    while piece := file.read(_PIECE):
        digest.update(piece)
        size += len(piece)
    return size, digest.hexdigest()
