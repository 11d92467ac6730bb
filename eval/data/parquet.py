"""Images in a parquet file, read by row group."""

from __future__ import annotations

import json
from bisect import bisect_right
from functools import cached_property
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING

from eval.data.columns import Columns, find_columns, image_bytes, spelt
from eval.data.digest import file_digest, joint_digest
from eval.data.source import ImageSource, Table

if TYPE_CHECKING:
    import pyarrow as pa

BATCH = 256


class ParquetImages(ImageSource):
    """One row per image; the encoded images of one row group are in memory at a time."""

    def __init__(self, table: Table, path: Path, columns: Columns, group_sizes: list[int]) -> None:
        super().__init__(table)
        self._path, self._columns = path, columns
        self._ends = list(accumulate(group_sizes))
        self._group: tuple[int, list[pa.RecordBatch]] | None = None

    @cached_property
    def digest(self) -> str:
        return joint_digest((file_digest(self._path), len(self)))

    def encoded(self, index: int) -> tuple[bytes, bytes | None]:
        group = bisect_right(self._ends, index)
        start = self._ends[group - 1] if group else 0
        batch, row = divmod(index - start, BATCH)
        cells = self._batches(group)[batch].slice(row, 1).to_pylist()[0]
        mask = None if self._columns.mask is None else image_bytes(cells[self._columns.mask])
        return image_bytes(cells[self._columns.image]), mask

    def _batches(self, group: int) -> list[pa.RecordBatch]:
        if self._group is None or self._group[0] != group:
            self._group = None  # not both in memory
            self._group = group, _read_group(self._path, group, self._columns.encoded)
        return self._group[1]

    def __getstate__(self) -> dict[str, object]:
        return self.__dict__ | {"_group": None}


def open_parquet(path: Path, split: str | None, limit: int | None) -> ParquetImages:
    """Read the labels and the layout; raises ValueError for another file, no image column, or no rows."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    if split is not None:
        raise ValueError(f"{path} is one file and has no split {split!r}")
    try:
        file = pq.ParquetFile(path)
    except (pa.ArrowException, OSError) as error:
        raise ValueError(f"{path} is not a parquet file: {error}") from error
    with file:
        columns = find_columns(file.schema_arrow.names, path)
        _check_types(file.schema_arrow, columns, path)
        table = _table(file, path, columns, limit)
        groups = [file.metadata.row_group(i).num_rows for i in range(file.num_row_groups)]
    return ParquetImages(table, path, columns, groups)


def _read_group(path: Path, group: int, columns: list[str]) -> list[pa.RecordBatch]:
    """Opened anew each time: an open file shared by forked workers would share its position too."""
    import pyarrow.parquet as pq

    with pq.ParquetFile(path) as file:
        return list(file.iter_batches(BATCH, row_groups=[group], columns=columns))


def _table(file, path: Path, columns: Columns, limit: int | None) -> Table:
    names = [name for name in (columns.label, columns.wnid) if name is not None]
    values = file.read(columns=names).slice(0, limit).to_pydict() if names else {}
    count = min(file.metadata.num_rows, limit or file.metadata.num_rows)
    if count == 0:
        raise ValueError(f"{path} has no rows")
    classes = _class_names(file.schema_arrow, columns.label)
    nothing = [None] * count
    labels = spelt(values.get(columns.label, nothing), classes)
    wnids = spelt(values.get(columns.wnid, nothing), ())
    return Table(path.name, labels, wnids, classes, columns.mask is not None)


def _check_types(schema: pa.Schema, columns: Columns, path: Path) -> None:
    """Raises ValueError if the image or mask column is of a type that can hold no encoded images."""
    import pyarrow as pa

    for name in columns.encoded:
        kind = schema.field(name).type
        inner = [kind.field(i).name for i in range(kind.num_fields)] if pa.types.is_struct(kind) else []
        if not (pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or "bytes" in inner):
            raise ValueError(
                f"column {name} of {path} is {kind}; expected binary, or a struct of bytes and path"
            )


def _class_names(schema: pa.Schema, label: str | None) -> tuple[str, ...]:
    """The names that Hugging Face's metadata gives to label indices; none where it gives none."""
    metadata = (schema.metadata or {}).get(b"huggingface")
    if metadata is None or label is None:
        return ()
    feature = json.loads(metadata).get("info", {}).get("features", {}).get(label, {})
    return tuple(feature.get("names") or ())
