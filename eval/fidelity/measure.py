"""Measuring the arms: features once, then every metric, its interval and every pair's difference."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from eval.cli import progress, say
from eval.fidelity.cache import features_of
from eval.fidelity.choices import METRICS, NATIVE
from eval.fidelity.extractor import STAND_IN, Extractor, Features, open_extractor, vit_extractor
from eval.fidelity.extrapolate import extrapolate
from eval.fidelity.images import Generated
from eval.fidelity.metrics import Accuracy, Frechet, Kernel, Metric, PrecisionRecall, Score
from eval.fidelity.reference import SHIPPED, STATISTICS, Real, open_reference
from eval.fidelity.resampling import Estimate, compare, compare_accuracy, estimate, estimate_accuracy
from eval.labels import match_labels
from tokenrank_guidance.commands.models import usable_device

Json = dict[str, Any]
Pair = tuple[Generated, Generated]
NEEDS_IMAGES, NEEDS_REFERENCE = ("kid", "prc"), ("fid", "kid", "prc")


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
            {"arm": arm.arm, "n": len(arm), "metrics": self.figures[arm.arm], "cost": arm.cost}
            for arm in self.arms
        ]
        pairs = [{"a": a, "b": b, "metrics": found} for (a, b), found in self.differences.items()]
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
    extractor = open_extractor(arguments.extractor, arguments.inception, usable_device(arguments.measure_on))
    cache = arguments.cache or out / "features"
    classifier = extractor if arguments.classifier is None else vit_extractor(arguments.classifier)
    accuracies = {arm.arm: one for arm in arms if (one := _accuracy(arm, classifier)) is not None}
    _check_metrics(arguments, len(accuracies) == len(arms))
    real = _reference(arguments, arms, extractor, cache)
    chosen = _chosen(arguments.metrics, real, len(accuracies) == len(arms))
    features = {arm.arm: features_of(arm, extractor, cache) for arm in arms}
    named = {arm.arm: features_of(arm, classifier, cache) for arm in arms} if "accuracy" in chosen else {}
    random = (arguments.resamples, arguments.resampling_seed)
    work = _Work(features, named, _metrics(chosen, real), accuracies, extractor, random)
    figures = {arm.arm: work.figures(arm.arm) for arm in progress(arms, "arms")}
    if arguments.extrapolate:
        _extrapolate(figures, work)
    pairs = pairing(arms)
    paired = [(a.arm, b.arm) for a, b in pairs if a.pairing is not None and a.pairing == b.pairing]
    if len(paired) < len(pairs):
        notes.append("arms of other prompts or seeds, or of unknown ones, are not compared in pairs")
    differences = {pair: work.differences(*pair) for pair in progress(paired, "pairs")}
    notes += _unnamed(arms, classifier) if named else []
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


def _reference(
    arguments: Namespace, arms: Sequence[Generated], extractor: Extractor, cache: Path
) -> Real | None:
    if arguments.reference is None:
        return None
    side = arguments.resolution
    if side is None:
        height, width = arms[0][0].shape[1:]
        if height != width:
            raise ValueError(f"images are {width}×{height}: say what size real ones get with --resolution")
        side = int(width)
    return open_reference(arguments.reference, extractor, None if side == NATIVE else side, cache)


def _accuracy(arm: Generated, classifier: Extractor) -> Accuracy | None:
    """Accuracy by the classifier, if it is one and has at least two of the prompts' classes."""
    if classifier.classifier is None:
        return None
    classes = classifier.classifier[0].config.id2label
    known = {label: _class_of(label, classes) for label in dict.fromkeys(arm.labels)}
    target = np.array([known[label] for label in arm.labels])
    return Accuracy(target) if len(np.unique(target[target >= 0])) > 1 else None


def _unnamed(arms: Sequence[Generated], classifier: Extractor) -> list[str]:
    """The note on labels for which the classifier has no class, if there are any."""
    assert classifier.classifier is not None
    classes = classifier.classifier[0].config.id2label
    labels = dict.fromkeys(label for arm in arms for label in arm.labels)
    absent = [str(label) for label in labels if _class_of(label, classes) < 0]
    return (
        [f"accuracy leaves out what the classifier has no class for: {', '.join(absent)}"] if absent else []
    )


def _class_of(label: str | None, classes: Mapping[int, str]) -> int:
    if label is None:
        return -1
    try:
        return match_labels([label], classes)[label]
    except ValueError:
        return -1


def _check_metrics(arguments: Namespace, accuracy: bool) -> None:
    """Raise ValueError for a metric that cannot be had, before anything is computed."""
    reference, asked = arguments.reference, arguments.metrics or ()
    statistics = reference is not None and (reference == SHIPPED or reference.endswith(STATISTICS))
    for name, lacking, what in (
        (NEEDS_REFERENCE, reference is None, "needs --reference"),
        (NEEDS_IMAGES, statistics, "needs the reference's images, not their mean and covariance alone"),
        (
            ("accuracy",),
            not accuracy,
            "needs a ViT (--classifier) with two or more of the prompts' classes",
        ),
    ):
        wrong = [metric for metric in asked if metric in name and lacking]
        if wrong:
            raise ValueError(f"metric {wrong[0]} {what}")


def _chosen(asked: Sequence[str] | None, real: Real | None, accuracy: bool) -> list[str]:
    """The metrics that were asked for, or all that can be had."""
    lacking = {"accuracy"} if not accuracy else set()
    if real is None:
        lacking |= set(NEEDS_REFERENCE)
    elif real.features is None:
        lacking |= set(NEEDS_IMAGES)
    return [name for name in asked or METRICS if name not in lacking]


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
    if not frechet:
        raise ValueError("--extrapolate needs fid, and so a reference")
    name = f"{work.extractor.label('fid')}_infinity"
    for arm, features in work.features.items():
        figures[arm][name] = extrapolate(frechet[0], features, work.random[1])
        say(f"{arm}: {name} {figures[arm][name].value:.4g}")
