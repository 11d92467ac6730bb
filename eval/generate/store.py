"""The images of one arm on disk: shards of a thousand, journals of finished micro-batches, a manifest."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from eval.generate.draw import Drawn
from eval.journal import Journal, check_settings
from eval.report import write_json, write_whole

Json = dict[str, Any]
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

    def journal(self, process: int = 0) -> Journal:
        return Journal(self.folder / f"batches-{process}.jsonl", self.config)

    def finished(self) -> dict[int, Json]:
        """The records of all micro-batches, of this and of earlier runs, by their first index."""
        done: dict[int, Json] = {}
        for path in sorted(self.folder.glob(JOURNALS)):
            with Journal(path, self.config) as journal:
                done |= {int(key): record for key, record in journal.done.items()}
        return done

    def missing(self, batches: Sequence[range], n: int) -> list[range]:
        """The micro-batches that were not finished, or of whose images below n one is no longer there.

        Raises ValueError for a manifest of other settings, too. Scratch files of a killed run are removed.
        """
        done = self.finished()
        self._check_manifest()
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
        hashes = [hashlib.sha256(data).hexdigest() for data in files]
        before = earlier.get(batch.start)
        if before is not None and before["sha256"] != hashes:
            raise ValueError(
                f"images {batch.start} … {batch.stop - 1} of {self.folder} do not come out as before: "
                "this machine computes otherwise; start anew in another folder"
            )
        for index, data in zip(batch, files, strict=True):
            path = image_path(self.folder, index, self.suffix)
            if index < n and not _holds(path, data):
                write_whole(path, lambda scratch, data=data: scratch.write_bytes(data))
        if before is None:
            record = {"sha256": hashes, "bytes": [len(data) for data in files], **_cost(drawn)}
            journal.add(str(batch.start), record)

    def write_manifest(self, arm: str, n: int, entries: Mapping[str, object]) -> None:
        """Say that images 0 … n − 1 are complete."""
        files = {"n": n, "suffix": self.suffix, "shard": SHARD}
        write_json(self.folder / MANIFEST, {"arm": arm, **files, **entries, "settings": self.config})

    def _check_manifest(self) -> None:
        path = self.folder / MANIFEST
        if not path.is_file():
            return
        try:
            before = dict(json.loads(path.read_text(encoding="utf-8"))["settings"])
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{path} is damaged; remove it and run this again") from error
        check_settings(path, before, self.config)

    def _encoded(self, image: Image.Image) -> bytes:
        buffer = io.BytesIO()
        image.convert("RGB").save(buffer, **SAVING[self.suffix])
        return buffer.getvalue()

    def _lost(self, batch: range, n: int, done: Mapping[int, Json]) -> bool:
        sizes = zip(batch, done[batch.start]["bytes"], strict=True)
        return any(i < n and not _whole(image_path(self.folder, i, self.suffix), size) for i, size in sizes)


def _whole(path: Path, size: int) -> bool:
    try:
        return path.stat().st_size == size
    except OSError:
        return False


def _holds(path: Path, data: bytes) -> bool:
    return _whole(path, len(data)) and path.read_bytes() == data


def _cost(drawn: Drawn) -> Json:
    return {"seconds": drawn.seconds, "calls": drawn.calls, "evaluations": drawn.evaluations}


def images_of(folder: Path, manifest: Mapping[str, Any]) -> Iterator[Path]:
    """The paths of a manifest's images, in the order of their indices."""
    return (image_path(folder, i, manifest["suffix"]) for i in range(manifest["n"]))
