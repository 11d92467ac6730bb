"""The pictures in a folder, and what of it is left out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from tokenrank_guidance.files.limits import IMAGES, LINKS
from tokenrank_guidance.files.pictures import SUFFIXES
from tokenrank_guidance.files.reading import lies_in
from tokenrank_guidance.messages import say


def list_pictures(root: Path) -> list[Path]:
    """Every file below `root` whose name says that it is a picture, sorted; hidden ones do not count.

    Links that lead out of `root` are left out unless the environment asks for them, pipes and devices always;
    one line says how many files were left out and why. ValueError for more than `IMAGES`.
    """
    left: Counter[str] = Counter()
    pictures: list[Path] = []
    for path in _files(root, left):
        pictures.append(path)
        IMAGES.check(len(pictures), f"{root} has more pictures than are taken")
    if left:
        reasons = "; ".join(f"{count} {reason}" for reason, count in sorted(left.items()))
        say(f"{left.total()} files in {root} are left out: {reasons} (pictures end in {', '.join(SUFFIXES)})")
    return sorted(pictures)


def _files(root: Path, left: Counter[str]) -> Iterator[Path]:
    """Without recursion, as folders may lie deep; each folder once, as links may lead in a circle."""
    folders, seen = [root], {root.resolve()}
    while folders:
        for path in folders.pop().iterdir():
            if path.name.startswith("."):
                continue
            if path.is_symlink() and not lies_in(path, root):
                left[f"by links out of it (set {LINKS}=1 to follow them)"] += 1
            elif path.is_dir():
                if path.resolve() not in seen:
                    seen.add(path.resolve())
                    folders.append(path)
            elif not path.is_file():
                left["neither file nor folder"] += 1
            elif path.suffix.lower() not in SUFFIXES:
                left[f"ending in {path.suffix.lower() or 'nothing'}"] += 1
            else:
                yield path
