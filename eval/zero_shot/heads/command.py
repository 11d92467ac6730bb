"""`python -m eval.zero_shot.heads`: opens, measures what is missing, publishes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from eval.data import rows
from eval.processes import device_of, join_processes
from eval.running import image_journals, measure_missing, one_by_one, publish
from eval.zero_shot.heads.options import parse
from eval.zero_shot.heads.readers import HeadsReader, open_reader
from eval.zero_shot.heads.result import HeadsResult, Measured, Picture
from eval.zero_shot.heads.views import VIEWS
from eval.zero_shot.objects import Labelled, open_objects
from eval.zero_shot.tally import squared, tally
from tokenrank_guidance.files.digest import weights_digest
from tokenrank_guidance.markov.precision import float64_on_cpu
from tokenrank_guidance.report import Json


def main(argv: Sequence[str]) -> None:
    """Run the experiment that the arguments ask for."""
    asked = parse(argv)
    state = join_processes(asked.device)
    objects = open_objects(asked.data, asked.concept, asked.names, asked.split)
    images = rows(objects, asked.rows, asked.limit)
    reader = open_reader(asked, device_of(state, asked.device))
    config = objects.config | {
        "weights": weights_digest(reader.model),
        "model_dtype": asked.dtype,
        "maps": list(asked.maps),
        **reader.config,
    }
    journals = image_journals(asked.out, config, Measured, len(asked.maps))
    measure = one_by_one(lambda image: measured(reader, objects[image], asked.maps))
    finished = measure_missing(state, journals, images, measure)
    if finished is not None:
        result = HeadsResult.of(asked.maps, list(finished.records.values()), reader.start)
        publish(asked, config, result, {"unreadable": finished.unreadable}, VIEWS, {})


def measured(reader: HeadsReader, one: Labelled, maps: Sequence[str]) -> Json:
    """The record of one picture."""
    pixels, mask = squared(one.image, one.mask)
    layers = reader(pixels, one.word)
    tallies = [[tally(heat, mask) for layer in layers for heat in layer.heats[name].cpu()] for name in maps]
    picture = Picture(
        np.concatenate([float64_on_cpu(layer.lambda2).numpy() for layer in layers]),
        np.array([[found.confusion for found in own] for own in tallies]),
        np.array([[found.precision for found in own] for own in tallies]),
    )
    sizes = [[layer.layer, len(layer.lambda2)] for layer in layers]
    return {"layers": sizes} | picture.to_json()
