"""From the names that a data set gives its classes to the indices that a classifier gives them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches

IMAGENET_CLASSES = 1000
Index = Mapping[str, set[int]]


def match_labels(
    names: Sequence[str], classes: Mapping[int, str], wnids: Mapping[str, str] | None = None
) -> dict[str, int]:
    """The class of each name: `{name: index in classes}`, `classes` being a classifier's `id2label`.

    A class is a comma-separated list of synonyms ("tench, Tinca tinca"); a name matches if it equals one of
    them, or the list, letter case and underscores aside. `wnids` gives names their WordNet ids; a name may
    also be one. For an ImageNet-1k classifier (1,000 classes in the usual order) a WordNet id is looked up in
    timm's table, and decides where it and the name disagree or the name is ambiguous, as "crane" is.

    Raises ValueError that lists every name without a class, with the closest classes, or with several.
    """
    index, known = synonyms(classes), wnids or {}
    table = _imagenet_indices(classes) if known or any(map(_is_wnid, names)) else {}
    found = {name: _candidates(name, known.get(name, name), index, table) for name in names}
    problems = [_problem(name, found[name], index, classes) for name in found if len(found[name]) != 1]
    if problems:
        raise ValueError(f"{len(problems)} of {len(found)} labels have no class: {'; '.join(problems)}")
    return {name: min(indices) for name, indices in found.items()}


def synonyms(classes: Mapping[int, str]) -> dict[str, set[int]]:
    """Every spelling of every class, and the classes that have it."""
    index: dict[str, set[int]] = defaultdict(set)
    for number, names in classes.items():
        for name in {names, *names.split(",")}:
            index[_folded(name)].add(int(number))
    return dict(index)


def _folded(name: str) -> str:
    return " ".join(name.replace("_", " ").casefold().split())


def _is_wnid(name: str) -> bool:
    return len(name) == 9 and name[0] == "n" and name[1:].isdigit()


def _candidates(name: str, wnid: str, index: Index, table: Mapping[str, int]) -> set[int]:
    if wnid in table:
        return {table[wnid]}
    return index.get(_folded(name)) or index.get(_folded(wnid)) or set()


def _imagenet_indices(classes: Mapping[int, str]) -> dict[str, int]:
    """WordNet id → index for a classifier of ImageNet-1k's classes in their usual order, else nothing.

    A class that has a name of its own, other than all those of its WordNet id, speaks against that order.
    """
    if len(classes) != IMAGENET_CLASSES:
        return {}
    from timm.data.imagenet_info import ImageNetInfo

    info = ImageNetInfo("imagenet-1k")
    table = {wnid: i for i, wnid in enumerate(info.label_names())}
    fitting = sum(_same_class(classes[i], info.index_to_description(i), wnid) for wnid, i in table.items())
    return table if fitting > 0.9 * IMAGENET_CLASSES else {}  # some lists spell single classes differently


def _same_class(own: str, usual: str, wnid: str) -> bool:
    unnamed = own.upper().startswith("LABEL_")
    return unnamed or bool(_spellings(own) & (_spellings(usual) | {wnid}))


def _spellings(names: str) -> set[str]:
    return {_folded(name) for name in names.split(",")}


def _problem(name: str, indices: Iterable[int], index: Index, classes: Mapping[int, str]) -> str:
    several = [f"{number} {classes[number]!r}" for number in sorted(indices)]
    if several:
        return f"{name!r} is ambiguous: {', '.join(several)}"
    close = get_close_matches(_folded(name), index, n=3)
    return f"{name!r} (close: {', '.join(map(repr, close))})" if close else f"{name!r}"
