"""A folder of files that nobody should trust, made when the tests run."""

import io
import os
import pickle
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from PIL import Image
from safetensors.torch import save

from tests.eval.data.pictures import encoded


def noise(side: int = 64) -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 255, (side, side, 3), dtype=np.uint8))


def half(data: bytes) -> bytes:
    return data[: len(data) // 2] + bytes(len(data) - len(data) // 2)


def png_of_size(width: int, height: int) -> bytes:
    """A PNG that says it has that size, and nothing of it."""
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunk = struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header))
    return b"\x89PNG\r\n\x1a\n" + chunk


def parquet(columns: dict[str, object]) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(pa.table(columns), buffer)
    return buffer.getvalue()


def archive() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("../x", bytes(10**6))
    return buffer.getvalue()


def hdf5() -> bytes:
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        file["value/img"] = np.zeros((2, 2))
        file["value/gt"] = np.zeros((2, 2))
    return buffer.getvalue()


TENSORS = {"mean": torch.zeros(3), "features": torch.zeros(2, 3, 4), "weight": torch.zeros(2, 2)}
CONTENTS: dict[str, Callable[[], bytes]] = {
    "empty": lambda: b"",
    "text": lambda: b"no picture\n",
    "random": lambda: np.random.default_rng(1).bytes(5000),
    "zeros": lambda: bytes(5000),
    "half.png": lambda: half(encoded(noise())),
    "cut.jpg": lambda: encoded(noise(), "JPEG")[:900],
    "half.tif": lambda: half(encoded(noise(), "TIFF", compression="tiff_lzw")),
    "huge.png": lambda: png_of_size(2**31 - 1, 2**31 - 1),
    "large.png": lambda: png_of_size(13_000, 13_000),
    "nothing.bmp": lambda: encoded(noise(), "BMP")[:18] + bytes(8) + encoded(noise(), "BMP")[26:],
    "script.eps": lambda: b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n",
    "archive.zip": archive,
    "pickle.bin": lambda: pickle.dumps({"weight": [1.0]}),
    "half.parquet": lambda: half(parquet({"image": [encoded(noise())] * 3})),
    "other.parquet": lambda: parquet({"a": [1, 2]}),
    "device.parquet": lambda: parquet({"image": [{"bytes": None, "path": "/dev/zero"}]}),
    "half.safetensors": lambda: half(save(TENSORS)),
    "cut.safetensors": lambda: save(TENSORS)[:-9],
    "long.safetensors": lambda: struct.pack("<Q", 2**62) + b"{}",
    "other.safetensors": lambda: save({"x": torch.zeros(1)}),
    "half.mat": lambda: half(hdf5()),
    "other.mat": hdf5,
    "deep.json": lambda: b"[" * 200_000,
    "list.json": lambda: b"[1, 2]",
    "large.json": lambda: b'{"n": 1000000000000, "config": {}, "results": [{"auc": "x"}]}',
    "digits.json": lambda: b'{"n": ' + b"9" * 5000 + b"}",
    "utf16.txt": lambda: "a cat\n".encode("utf-16"),
    "latin1.txt": lambda: "caf\xe9\n".encode("latin-1"),
}
OTHERS = ("pipe.png", "device.png", "loop.png", "gone.png", "folder.png")
BAD = (*CONTENTS, *OTHERS)


def make(folder: Path) -> Path:
    """All of them in `folder`, beside what is no regular file."""
    for name, content in CONTENTS.items():
        (folder / name).write_bytes(content())
    os.mkfifo(folder / "pipe.png")
    (folder / "device.png").symlink_to("/dev/zero")
    (folder / "loop.png").symlink_to("loop.png")
    (folder / "gone.png").symlink_to("nowhere")
    (folder / "folder.png").mkdir()
    return folder
