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
from eval.fidelity.extractor import STAND_IN, Extractor, Features, open_extractor, vit_extractor
from eval.fidelity.extrapolate import FEWEST as EXTRAPOLATED
from eval.fidelity.extrapolate import extrapolate
from eval.fidelity.images import Generated, Reference
from eval.fidelity.metrics import METRICS, Accuracy, Frechet, Kernel, Metric, PrecisionRecall, Score
from eval.fidelity.options import NATIVE
from eval.fidelity.reference import SHIPPED, STATISTICS, Real, find_reference, read_reference
from eval.fidelity.resampling import Estimate, compare, compare_accuracy, estimate, estimate_accuracy
from eval.fidelity.statistics import Gaussian
from eval.labels import match_labels
from eval.report import check_writable
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
    planned = plan(arguments, len(arms[0]), [arm.labels for arm in arms], _side(arguments, arms))
    extractor, classifier, chosen = planned.extractor, planned.classifier, planned.chosen
    cache = arguments.cache or out / "features"
    check_writable(cache)
    found = planned.reference
    real = None if found is None else read_reference(found, extractor, cache)
    features = {arm.arm: features_of(arm, extractor, cache) for arm in arms}
    named = {arm.arm: features_of(arm, classifier, cache) for arm in arms} if "accuracy" in chosen else {}
    accuracies = {arm.arm: _accuracy(arm.labels, classifier) for arm in arms} if named else {}
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


def _side(arguments: Namespace, arms: Sequence[Generated]) -> int | None:
    """The side of the reference's images; None for their own."""
    if arguments.resolution is not None or arguments.reference is None:
        return None if arguments.resolution == NATIVE else arguments.resolution
    height, width = arms[0][0].shape[1:]
    return square_side(height, width)


def square_side(height: int, width: int) -> int:
    """ValueError where nothing says how real images get to the generated ones' size."""
    if height != width:
        raise ValueError(f"images are {width}×{height}: say what size real ones get with --resolution")
    return height


@dataclass(frozen=True)
class Plan:
    """What is going to be measured, by what, against what; `notes` say what is not."""

    extractor: Extractor
    classifier: Extractor
    reference: Gaussian | Reference | None
    chosen: Sequence[str]
    notes: Sequence[str]
    extrapolates: bool

    @property
    def figures(self) -> list[str]:
        """The names of all figures that come of it."""
        label = self.extractor.label
        plain = [label(one) for name in self.chosen if name != "accuracy" for one in METRICS[name].names]
        infinite = [f"{label('fid')}_infinity"] if self.extrapolates else []
        return [*plain, *(["accuracy"] if "accuracy" in self.chosen else []), *infinite]


def plan(arguments: Namespace, n: int, labels: Sequence[Sequence[str | None]], side: int | None) -> Plan:
    """Check everything that can be checked before there are images: n of each arm, with these labels.

    Raises ValueError for an extractor, a reference or a metric that cannot be had.
    """
    extractor = open_extractor(arguments.extractor, arguments.inception, usable_device(arguments.measure_on))
    classifier = extractor if arguments.classifier is None else vit_extractor(arguments.classifier)
    accuracy = all(_accuracy(one, classifier) is not None for one in labels)
    lacking = _lacking(arguments.reference, accuracy, n)
    wrong = [name for name in arguments.metrics or () if name in lacking]
    if wrong:
        raise ValueError(f"metric {wrong[0]} {lacking[wrong[0]]}")
    chosen = [name for name in arguments.metrics or METRICS if name not in lacking]
    if not chosen:
        reasons = "; ".join(f"{name} {reason}" for name, reason in lacking.items())
        raise ValueError(f"there is nothing to measure: {reasons}")
    reference = None
    if arguments.reference is not None:
        reference = find_reference(arguments.reference, extractor, side)
        _check_reference(reference, chosen)
    if arguments.extrapolate and "fid" not in chosen:
        raise ValueError("--extrapolate needs fid, and so a reference")
    if arguments.extrapolate and n < EXTRAPOLATED:
        raise ValueError(f"--extrapolate takes at least {EXTRAPOLATED} images of each arm, got {n}")
    notes = [f"{name} is left out: it {why}" for name, why in lacking.items() if n < METRICS[name].fewest]
    return Plan(extractor, classifier, reference, chosen, notes, arguments.extrapolate)


def _lacking(reference: str | None, accuracy: bool, n: int) -> dict[str, str]:
    """Of each metric that cannot be had, why."""
    statistics = reference is not None and (reference == SHIPPED or reference.endswith(STATISTICS))
    reasons: dict[str, str] = {}
    for name, metric in METRICS.items():
        if name in NEEDS_REFERENCE and reference is None:
            reasons[name] = "needs --reference"
        elif name in NEEDS_IMAGES and statistics:
            reasons[name] = "needs the reference's images, not their mean and covariance alone"
        elif name == "accuracy" and not accuracy:
            reasons[name] = "needs a ViT (--classifier) with two or more of the prompts' classes"
        elif n < metric.fewest:
            reasons[name] = f"needs at least {metric.fewest} images of each arm, got {n}"
    return reasons


def _check_reference(reference: Gaussian | Reference, chosen: Sequence[str]) -> None:
    if isinstance(reference, Gaussian):
        return
    for name in [name for name in chosen if name in NEEDS_REFERENCE]:
        fewest, n = METRICS[name].fewest, len(reference)
        if n < fewest:
            raise ValueError(f"metric {name} needs a reference of at least {fewest} images, got {n}")


def _accuracy(labels: Sequence[str | None], classifier: Extractor) -> Accuracy | None:
    """Accuracy by the classifier, if it is one and has at least two of the prompts' classes."""
    if classifier.classifier is None:
        return None
    classes = classifier.classifier[0].config.id2label
    known = {label: _class_of(label, classes) for label in dict.fromkeys(labels)}
    target = np.array([known[label] for label in labels])
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
