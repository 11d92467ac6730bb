"""`python -m eval.fidelity.reference`: computes and writes the statistics of a source of images."""

from __future__ import annotations

from collections.abc import Sequence

from eval.fidelity.cache import features_of
from eval.fidelity.extractor import VIT, open_extractor
from eval.fidelity.real import about, reference_images
from eval.fidelity.reference.options import parse
from eval.fidelity.statistics import gaussian_of
from eval.report import provenance
from tokenrank_guidance.messages import say
from tokenrank_guidance.report import emit


def main(argv: Sequence[str]) -> None:
    """Measure and write what the arguments name."""
    asked = parse(argv)
    extractor = open_extractor(
        f"{VIT}{asked.classifier}" if asked.classifier else "inception", asked.inception
    )
    images = reference_images(asked.data, asked.resolution, asked.limit)
    source = about(images, extractor)
    gaussian_of(features_of(images, extractor, asked.cache)["features"], source).save(asked.out)
    say(f"{len(images)} images: {asked.out}, {asked.out.stat().st_size / 1e3:.0f} kB")
    emit(provenance(vars(asked), 0, len(images)) | {"about": source}, asked.out.with_suffix(".report"))
