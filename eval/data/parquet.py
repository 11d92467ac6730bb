"""Images in a parquet file, read by row group."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any

from eval.data.columns import Columns, find_columns, spelt
from eval.data.source import ImageSource, Table
from tokenrank_guidance.files.cells import image_bytes
from tokenrank_guidance.files.digest import file_digest, joint_digest
from tokenrank_guidance.files.limits import IMAGES
from tokenrank_guidance.files.reading import parse_json

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
        cells, folder = self._cells(index), self._path.parent
        mask = None if self._columns.mask is None else image_bytes(cells[self._columns.mask], folder)
        return image_bytes(cells[self._columns.image], folder), mask

    def file(self, index: int) -> str | None:
        """The path that is given beside the bytes."""
        try:
            cell = self._cells(index)[self._columns.image]
        except (OSError, ValueError):  # asked for to say that the row cannot be read
            return None
        path = cell.get("path") if isinstance(cell, Mapping) else None
        return path if isinstance(path, str) else None

    def _cells(self, index: int) -> dict[str, Any]:
        group = bisect_right(self._ends, index)
        start = self._ends[group - 1] if group else 0
        batch, row = divmod(index - start, BATCH)
        return self._batches(group)[batch].slice(row, 1).to_pylist()[0]

    def _batches(self, group: int) -> list[pa.RecordBatch]:
        if self._group is None or self._group[0] != group:
            self._group = None  # not both in memory
            self._group = group, _read_group(self._path, group, self._columns.encoded)
        return self._group[1]

    def __getstate__(self) -> dict[str, object]:
        return self.__dict__ | {"_group": None}


def open_parquet(path: Path, split: str | None, limit: int | None) -> ParquetImages:
    """Read the labels and the layout; raises ValueError for another file, no image column, or no rows."""
    import pyarrow.parquet as pq

    if split is not None:
        raise ValueError(f"{path} is one file and has no split {split!r}")
    with _refusing(f"{path} is not a parquet file"), pq.ParquetFile(path) as file:
        columns = find_columns(file.schema_arrow.names, path)
        _check_types(file.schema_arrow, columns, path)
        groups = [file.metadata.row_group(i).num_rows for i in range(file.num_row_groups)]
        IMAGES.check(sum(groups), f"{path} has {sum(groups)} rows")
        table = _table(file, sum(groups), path, columns, limit)
    return ParquetImages(table, path, columns, groups)


@contextmanager
def _refusing(what: str) -> Iterator[None]:
    """Whatever pyarrow raises in the block, as a ValueError of one line."""
    import pyarrow as pa

    try:
        yield
    except (pa.ArrowException, OSError) as error:
        raise ValueError(f"{what}: {' '.join(str(error).split())}") from error


def _read_group(path: Path, group: int, columns: list[str]) -> list[pa.RecordBatch]:
    """Opened anew each time: an open file shared by forked workers would share its position too."""
    import pyarrow.parquet as pq

    with _refusing("its part of the file is damaged"), pq.ParquetFile(path) as file:
        return list(file.iter_batches(BATCH, row_groups=[group], columns=columns))


def _table(file, rows: int, path: Path, columns: Columns, limit: int | None) -> Table:
    names = [name for name in (columns.label, columns.wnid) if name is not None]
    values = file.read(columns=names).slice(0, limit).to_pydict() if names else {}
    count = min(rows, limit or rows)
    if count == 0:
        raise ValueError(f"{path} has no rows")
    if any(len(column) != count for column in values.values()):
        raise ValueError(f"{path} is damaged: its columns have other numbers of rows than its {rows}")
    try:
        classes = _class_names(file.schema_arrow, columns.label)
    except ValueError as error:
        raise ValueError(f"{path} is damaged: {error}") from error
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
    features = parse_json(metadata, "the Hugging Face metadata")
    for key in ("info", "features", label, "names"):
        features = features.get(key) if isinstance(features, Mapping) else None
    if features is None:
        return ()
    if not isinstance(features, list) or not all(isinstance(name, str) for name in features):
        raise ValueError(f"the Hugging Face metadata's names of {label} are no list of texts")
    return tuple(features)
