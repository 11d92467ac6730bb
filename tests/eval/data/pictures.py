"""Encoded pictures, and tables of them."""

import io
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image


def encoded(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def plain(value: int, size: tuple[int, int] = (4, 3)) -> Image.Image:
    return Image.new("RGB", size, (value, 0, 0))


def write_table(path, columns: dict, names: list[str] | None = None, group: int = 2):
    table = pa.table(columns)
    if names is not None:
        features = {"label": {"names": names, "_type": "ClassLabel"}}
        table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    pq.write_table(table, path, row_group_size=group)
    return path


def cells(images: list[bytes | None]) -> list[dict]:
    return [{"bytes": data, "path": None} for data in images]


def index_mask(values: list[list[int]]) -> bytes:
    return encoded(Image.fromarray(np.array(values, dtype=np.uint8)))
