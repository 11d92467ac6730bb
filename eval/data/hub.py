"""Images in a dataset of the Hugging Face Hub."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from eval.data.columns import Columns, find_columns, spelt
from eval.data.source import ImageSource, Table
from tokenrank_guidance.files.cells import image_bytes
from tokenrank_guidance.files.digest import file_digest, joint_digest

if TYPE_CHECKING:
    from datasets import Dataset


class HubImages(ImageSource):
    """The rows of a `datasets.Dataset`, their images kept encoded."""

    def __init__(self, table: Table, dataset: Dataset, columns: Columns) -> None:
        super().__init__(table)
        self._dataset, self._columns = dataset, columns

    @cached_property
    def digest(self) -> str:
        files = [file_digest(Path(file["filename"])) for file in self._dataset.cache_files]
        return joint_digest((files or self._dataset._fingerprint, len(self)))

    def encoded(self, index: int) -> tuple[bytes, bytes | None]:
        row = self._dataset[index]
        mask = None if self._columns.mask is None else self._bytes(row[self._columns.mask])
        return self._bytes(row[self._columns.image]), mask

    def file(self, index: int) -> str | None:
        cell = self._dataset[index][self._columns.image]
        return cell.get("path") if isinstance(cell, Mapping) else None

    def _bytes(self, cell: object) -> bytes:
        """What a data set of single files names lies in the cache, as it was downloaded by the library."""
        caches = _caches()
        return image_bytes(cell, caches[0], caches)


def _caches() -> tuple[Path, ...]:
    from datasets import config
    from huggingface_hub.constants import HF_HUB_CACHE

    folders = (config.HF_DATASETS_CACHE, HF_HUB_CACHE, config.DOWNLOADED_DATASETS_PATH)
    return tuple(Path(one) for one in folders)


def open_hub(name: str, split: str | None, limit: int | None) -> HubImages:
    """Load one split of a dataset of the Hub, downloading what is not yet cached.

    Raises ValueError for an unknown dataset or split, and where several splits leave the choice open.
    """
    try:
        dataset = _load(name, split)
    except (OSError, ConnectionError) as error:  # not found is a FileNotFoundError
        raise ValueError(
            f"there is no file or folder {name}, and no such dataset could be had from the Hub: {error}"
        ) from error
    columns = find_columns(dataset.column_names, name)
    return HubImages(_table(dataset, name, columns, limit), _undecoded(dataset, columns), columns)


def _load(name: str, split: str | None) -> Dataset:
    import datasets

    splits = datasets.get_dataset_split_names(name)
    if split is None and len(splits) == 1:
        split = splits[0]
    if split not in splits:
        raise ValueError(f"dataset {name} has the splits {', '.join(splits)}; got {split or 'none'}")
    return datasets.load_dataset(name, split=split)


def _undecoded(dataset: Dataset, columns: Columns) -> Dataset:
    import datasets

    for column in columns.encoded:
        if isinstance(dataset.features[column], datasets.Image):
            dataset = dataset.cast_column(column, datasets.Image(decode=False))
    return dataset.select_columns(columns.encoded)


def _table(dataset: Dataset, name: str, columns: Columns, limit: int | None) -> Table:
    count = min(len(dataset), limit or len(dataset))
    if count == 0:
        raise ValueError(f"dataset {name} has no rows")
    head = dataset.select(range(count))
    classes = tuple(getattr(dataset.features.get(columns.label), "names", None) or ())
    labels = [None] * count if columns.label is None else spelt(head[columns.label], classes)
    wnids = [None] * count if columns.wnid is None else spelt(head[columns.wnid], ())
    return Table(name, labels, wnids, classes, columns.mask is not None)
