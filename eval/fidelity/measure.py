"""Measuring the arms: features once, then every metric, its interval and every pair's difference."""

from __future__ import annotations

import math
from argparse import Namespace
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

from eval.fidelity.cache import features_of
from eval.fidelity.choices import NATIVE
from eval.fidelity.extractor import STAND_IN, Extractor, Features
from eval.fidelity.extrapolate import extrapolate
from eval.fidelity.images import Generated
from eval.fidelity.metrics import Accuracy, Frechet, Kernel, Metric, PrecisionRecall, Score
from eval.fidelity.plan import accuracy_of, class_of, plan, square_side
from eval.fidelity.real import Real, read_reference
from eval.fidelity.resampling import (
    Estimate,
    compare,
    compare_accuracy,
    estimate,
    estimate_accuracy,
)
from eval.metrics.chance import corrected
from tokenrank_guidance.files.writing import check_writable
from tokenrank_guidance.interval import difference
from tokenrank_guidance.messages import progress, say
from tokenrank_guidance.report import Json

Pair = tuple[Generated, Generated]
LEVEL = 0.05  # of differences that are called ones
OF_THIS_N = (
    "a Fréchet distance and its interval are those of this many images: fewer make it larger, by some 5 at "
    "192 numbers and n = 256; --extrapolate tells what it tends to"
)


@dataclass(frozen=True)
class Measured:
    """Every arm's figures by name, those of the pairs, and what must be said beside them."""

    arms: Sequence[Generated]
    figures: Mapping[str, Mapping[str, Estimate]]
    differences: Mapping[tuple[str, str], Mapping[str, Estimate]]
    extractor: Extractor
    notes: Sequence[str]

    def to_json(self) -> Json:
        """`results` and `differences`, the stand-in's warning, and the notes."""
        rows = [
            {
                "arm": arm.arm,
                "n": len(arm),
                "metrics": self.figures[arm.arm],
                "cost": arm.cost,
                "drawn": arm.drawn,
            }
            for arm in self.arms
        ]
        pairs = [difference(a, b, found) for (a, b), found in self.differences.items()]
        warning = STAND_IN if self.extractor.is_stand_in else None
        return {
            "extractor": self.extractor.identity,
            "stand_in": warning,
            "results": rows,
            "differences": pairs,
            "notes": self.notes,
        }


def every_pair(arms: Sequence[Generated]) -> list[Pair]:
    return list(combinations(arms, 2))


def no_pair(arms: Sequence[Generated]) -> list[Pair]:
    return []


def measure(
    arguments: Namespace,
    arms: Sequence[Generated],
    out: Path,
    pairing: Callable[[Sequence[Generated]], list[Pair]] = every_pair,
) -> Measured:
    """Measure the arms, as many images of each as all have; ValueError for what cannot be measured."""
    arms, notes = _alike(arms, arguments.n)
    planned = plan(arguments, len(arms[0]), [arm.labels for arm in arms], _side(arguments, arms))
    extractor, classifier, chosen = planned.extractor, planned.classifier, planned.chosen
    cache = arguments.cache or out / "features"
    check_writable(cache)
    found = planned.reference
    real = None if found is None else read_reference(found, extractor, cache)
    features = {arm.arm: features_of(arm, extractor, cache) for arm in arms}
    named = {arm.arm: features_of(arm, classifier, cache) for arm in arms} if "accuracy" in chosen else {}
    asked = arms if named else []
    accuracies = {arm.arm: one for arm in asked if (one := accuracy_of(arm.labels, classifier)) is not None}
    notes += planned.notes
    random = (arguments.resamples, arguments.resampling_seed)
    work = _Work(features, named, _metrics(chosen, real), accuracies, extractor, random)
    figures = {arm.arm: work.figures(arm.arm) for arm in progress(arms, "arms")}
    if arguments.extrapolate:
        _extrapolate(figures, work)
    pairs = pairing(arms)
    paired = [(a.arm, b.arm) for a, b in pairs if a.pairing is not None and a.pairing == b.pairing]
    if len(paired) < len(pairs):
        notes.append("arms of other prompts or seeds, or of unknown ones, are not compared in pairs")
    differences = corrected({pair: work.differences(*pair) for pair in progress(paired, "pairs")})
    notes += _unnamed(arms, classifier) if named else []
    if any(isinstance(metric, Frechet) for metric in work.metrics):
        notes.append(OF_THIS_N)
    notes += too_coarse(len(paired), arguments.resamples)
    return Measured(arms, figures, differences, extractor, notes)


@dataclass(frozen=True)
class _Work:
    """Metrics on features, accuracies on those of the classifier (`named`, maybe none), by arms' names."""

    features: Mapping[str, Features]
    named: Mapping[str, Features]
    metrics: Sequence[Metric]
    accuracies: Mapping[str, Accuracy]
    extractor: Extractor
    random: tuple[int, int]

    def figures(self, arm: str) -> dict[str, Estimate]:
        found = self._labelled(estimate(one, self.features[arm], *self.random) for one in self.metrics)
        if arm in self.named:
            found["accuracy"] = estimate_accuracy(self.accuracies[arm], self.named[arm])
        return found

    def differences(self, a: str, b: str) -> dict[str, Estimate]:
        pair = self.features[a], self.features[b]
        found = self._labelled(compare(metric, *pair, *self.random) for metric in self.metrics)
        if a in self.named:
            named = self.named[a], self.named[b]
            found["accuracy"] = compare_accuracy(self.accuracies[a], *named, *self.random)
        return found

    def _labelled(self, parts: Iterable[Mapping[str, Estimate]]) -> dict[str, Estimate]:
        return {self.extractor.label(name): figure for part in parts for name, figure in part.items()}


def too_coarse(pairs: int, draws: int) -> list[str]:
    """A line where so few permutations show no difference among so many pairs, however large it is."""
    least = 1 / (draws + 1)
    if pairs * least <= LEVEL:
        return []
    lowest, enough = min(1.0, pairs * least), math.ceil(pairs / LEVEL)
    return [
        f"p of distances and scores, of {draws} permutations, is {least:.2g} or more, "
        f"Holm's over {pairs} pairs {lowest:.2g} or more at first: --resamples {enough} can show more"
    ]


def _alike(arms: Sequence[Generated], asked: int | None) -> tuple[list[Generated], list[str]]:
    """The same number of images of each arm, as FID's bias depends on it."""
    fewest = min(len(arm) for arm in arms)
    n = asked or fewest
    if n > fewest or n < 2:
        short = min(arms, key=len)
        raise ValueError(f"n is {n}, but the arm {short.arm} has {len(short)} images; expected 2 … {fewest}")
    notes = []
    if any(len(arm) > n for arm in arms):
        notes.append(f"the first {n} images of each arm are measured, as metrics of sets depend on n")
    return [arm.first(n) for arm in arms], notes


def _side(arguments: Namespace, arms: Sequence[Generated]) -> int | None:
    """The side of the reference's images; None for their own."""
    if arguments.resolution is not None or arguments.reference is None:
        return None if arguments.resolution == NATIVE else arguments.resolution
    height, width = arms[0][0].shape[1:]
    return square_side(height, width)


def _unnamed(arms: Sequence[Generated], classifier: Extractor) -> list[str]:
    """The note on labels for which the classifier has no class, if there are any."""
    assert classifier.classifier is not None
    classes = classifier.classifier[0].config.id2label
    labels = dict.fromkeys(label for arm in arms for label in arm.labels)
    absent = [str(label) for label in labels if class_of(label, classes) < 0]
    return (
        [f"accuracy leaves out what the classifier has no class for: {', '.join(absent)}"] if absent else []
    )


def _metrics(chosen: Sequence[str], real: Real | None) -> list[Metric]:
    metrics: list[Metric] = [Score()] if "isc" in chosen else []
    if real is not None and "fid" in chosen:
        metrics.insert(0, Frechet(real.gaussian))
    if real is not None and real.features is not None:
        metrics += [Kernel(real.features)] if "kid" in chosen else []
        metrics += [PrecisionRecall(real.features)] if "prc" in chosen else []
    return metrics


def _extrapolate(figures: Mapping[str, dict[str, Estimate]], work: _Work) -> None:
    frechet = [metric for metric in work.metrics if isinstance(metric, Frechet)]
    name = f"{work.extractor.label('fid')}_infinity"
    for arm, features in work.features.items():
        figures[arm][name] = extrapolate(frechet[0], features, work.random[1])
        say(f"{arm}: {name} {figures[arm][name].value:.4g}")
