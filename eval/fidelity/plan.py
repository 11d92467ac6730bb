"""What is going to be measured, found out before there is anything to measure."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from eval.fidelity.extractor import Extractor, open_extractor, vit_extractor
from eval.fidelity.extrapolate import FEWEST
from eval.fidelity.images import Reference
from eval.fidelity.metrics import METRICS, Accuracy
from eval.fidelity.real import SHIPPED, STATISTICS, find_reference
from eval.fidelity.statistics import Gaussian
from eval.labels import match_labels
from tokenrank_guidance.devices import usable_device
from tokenrank_guidance.memory import check_square

NEEDS_IMAGES, NEEDS_REFERENCE = ("kid", "prc"), ("fid", "kid", "prc")


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
    if isinstance(arguments.resolution, int):
        check_square(arguments.resolution, "cpu")  # where real images are resampled
    device = usable_device(arguments.measure_on)
    extractor = open_extractor(arguments.extractor, arguments.inception, device)
    classifier = extractor if arguments.classifier is None else vit_extractor(arguments.classifier, device)
    accuracy = all(accuracy_of(one, classifier) is not None for one in labels)
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
    if arguments.extrapolate and n < FEWEST:
        raise ValueError(f"--extrapolate takes at least {FEWEST} images of each arm, got {n}")
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


def accuracy_of(labels: Sequence[str | None], classifier: Extractor) -> Accuracy | None:
    """Accuracy by the classifier, if it is one and has at least two of the prompts' classes."""
    if classifier.classifier is None:
        return None
    classes = classifier.classifier[0].config.id2label
    known = {label: class_of(label, classes) for label in dict.fromkeys(labels)}
    target = np.array([known[label] for label in labels])
    return Accuracy(target) if len(np.unique(target[target >= 0])) > 1 else None


def class_of(label: str | None, classes: Mapping[int, str]) -> int:
    if label is None:
        return -1
    try:
        return match_labels([label], classes)[label]
    except ValueError:
        return -1
