"""The images of one arm on disk: shards of a thousand, journals of finished micro-batches, a manifest."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from PIL import Image
from pydantic import Field

from eval.generate.choices import MOST
from eval.generate.draw import Drawn
from eval.journal import Journal, Journals, check_settings
from eval.schema import Count, Schema, check_index, validated
from tokenrank_guidance.files.digest import bytes_digest, file_digest
from tokenrank_guidance.files.reading import read_json
from tokenrank_guidance.files.writing import check_writable, write_whole
from tokenrank_guidance.messages import say
from tokenrank_guidance.report import Json, write_json

MANIFEST, JOURNALS = "manifest.json", "batches-*.jsonl"
SHARD = 1000
SAVING = {"png": {"format": "PNG"}, "webp": {"format": "WEBP", "lossless": True, "exact": True}}  # of FORMATS


def micro_batches(n: int, size: int) -> list[range]:
    """Indices 0 … in steps of `size`, all of that length, so that the last one reaches beyond n.

    What a batch holds thus depends on neither n nor on who draws it, and neither do the images' bytes.
    """
    return [range(first, first + size) for first in range(0, n, size)]


def image_path(folder: Path, index: int, suffix: str) -> Path:
    """folder/000/000123.png"""
    return folder / f"{index // SHARD:03d}" / f"{index:06d}.{suffix}"


@dataclass(frozen=True)
class ArmStore:
    """One arm's folder; `config` is all that its images' bytes depend on.

    A micro-batch is finished once a journal has it, which is after its images are written. Raises ValueError,
    where journals are opened, for a folder with images of other settings.
    """

    folder: Path
    config: Mapping[str, object]
    suffix: str = "png"

    @property
    def journals(self) -> Journals:
        """Of finished micro-batches, by their first index."""
        return Journals(self.folder, "batches", self.config, _check)

    def check(self) -> None:
        """Raise ValueError for files that are damaged or of other settings, OSError for no writing here."""
        self.journals.records()
        self.manifest()
        check_writable(self.folder)

    def missing(self, batches: Sequence[range], n: int) -> list[range]:
        """The micro-batches that were not finished, or of whose images below n one is not as it was written.

        Raises ValueError for a manifest of other settings, too. Scratch files of a killed run are removed.
        """
        done = self.journals.records()
        self.manifest()
        for scratch in self.folder.glob(f"*/.*.{self.suffix}"):  # no journal is open: nobody is writing it
            scratch.unlink(missing_ok=True)
        return [batch for batch in batches if batch.start not in done or self._lost(batch, n, done)]

    def add(self, journal: Journal, batch: range, n: int, drawn: Drawn, earlier: Mapping[int, Json]) -> None:
        """Write a micro-batch's images below n, then note it in the journal.

        Images that are there with the same bytes are kept. Raises ValueError where a batch whose images were
        lost comes out otherwise than before, as on another machine; OSError on a full disk, after which it is
        not noted.
        """
        files = [self._encoded(image) for image in drawn.images]
        hashes = [bytes_digest(data) for data in files]
        before = earlier.get(batch.start)
        if before is not None and before["sha256"] != hashes:
            raise ValueError(
                f"images {batch.start} … {batch.stop - 1} of {self.folder} do not come out as before: "
                "this machine computes otherwise; start anew in another folder"
            )
        for index, data, one in zip(batch, files, hashes, strict=True):
            path = image_path(self.folder, index, self.suffix)
            if index < n and not _is(path, one):
                write_whole(path, lambda scratch, data=data: scratch.write_bytes(data))
        if before is None:
            record = {"sha256": hashes, "bytes": [len(data) for data in files], **_cost(drawn)}
            journal.add(str(batch.start), record)

    def write_manifest(self, arm: str, n: int, entries: Mapping[str, object]) -> None:
        """Say that images 0 … n − 1 are complete, unless it is said of more."""
        before = self.manifest()
        if before is not None and before.n > n:
            say(f"{self.folder} has {before.n} images of this arm, more than {n}; its manifest stays")
            return
        files = {"n": n, "suffix": self.suffix, "shard": SHARD}
        write_json(self.folder / MANIFEST, {"arm": arm, **files, **entries, "settings": self.config})

    def manifest(self) -> Manifest | None:
        """What is said to be complete; ValueError for a file that is damaged or of other settings."""
        if not (self.folder / MANIFEST).is_file():
            return None
        found = read_manifest(self.folder)
        check_settings(self.folder / MANIFEST, found.settings, self.config)
        return found

    def _encoded(self, image: Image.Image) -> bytes:
        buffer = io.BytesIO()
        image.convert("RGB").save(buffer, **SAVING[self.suffix])
        return buffer.getvalue()

    def _lost(self, batch: range, n: int, done: Mapping[int, Json]) -> bool:
        hashes = done[batch.start]["sha256"]
        if len(hashes) != len(batch):
            raise ValueError(f"the batch from {batch.start} on in {self.folder} has {len(hashes)} images")
        images = zip(batch, hashes, strict=True)
        return any(i < n and not _is(image_path(self.folder, i, self.suffix), one) for i, one in images)


def _is(path: Path, sha256: str) -> bool:
    """Whether the file has these contents: one that was damaged may have its size still."""
    try:
        return file_digest(path) == sha256
    except (OSError, ValueError):
        return False


def _check(key: str, record: Json) -> None:
    check_index(key)
    found = validated(_Batch, record)
    if len(found.bytes) != len(found.sha256):
        raise ValueError(f"it has {len(found.bytes)} sizes and {len(found.sha256)} hashes")


def _cost(drawn: Drawn) -> Json:
    return {"seconds": drawn.seconds, "calls": drawn.calls, "evaluations": drawn.evaluations}


class _Batch(Schema):
    """A finished micro-batch: its images' hashes and sizes, and what they cost."""

    sha256: list[Annotated[str, Field(pattern="^[0-9a-f]{64}$")]]
    bytes: list[Count]
    seconds: float
    calls: Count
    evaluations: float


class Manifest(Schema):
    """A finished arm: images 0 … n − 1, of prompts that take turns, image i from `seed` + i.

    `command` and `commit` are those of the run that finished it, None where they were not kept yet.
    """

    arm: str
    n: Annotated[int, Field(ge=1, le=MOST)]
    suffix: Literal["png", "webp"]
    shard: Literal[1000]
    seed: Count
    labels: Annotated[list[str | None], Field(min_length=1)]
    digest: str
    cost: dict[str, Any]
    settings: Json
    command: str | None = None
    commit: str | None = None


def read_manifest(folder: Path) -> Manifest:
    """The manifest of an arm's folder; OSError where there is none, ValueError for one that is damaged."""
    path = folder / MANIFEST
    try:
        return validated(Manifest, read_json(path))
    except ValueError as error:
        raise ValueError(f"{path} is damaged: {error}; remove it and run eval.generate again") from error


def images_of(folder: Path, manifest: Manifest) -> Iterator[Path]:
    """The paths of a manifest's images, in the order of their indices."""
    return (image_path(folder, i, manifest.suffix) for i in range(manifest.n))
