"""`tokenrank sample`: draw images with and without guidance, and compare."""

from __future__ import annotations

import json
from argparse import ArgumentParser, Namespace
from collections.abc import Mapping
from pathlib import Path

from PIL import Image

from sag.guidance import HEAD_WEIGHTS, SelfAttentionGuidance
from sag.mask import MASKS
from tokenrank_guidance.calls import Sampling, jobs_for
from tokenrank_guidance.commands.arms import ARMS, Arm, Study
from tokenrank_guidance.commands.comparison import Comparison
from tokenrank_guidance.commands.messages import say
from tokenrank_guidance.commands.models import Model, open_model
from tokenrank_guidance.commands.options import add_model_arguments, at_least, finite, layer
from tokenrank_guidance.commands.output import RESULT, staged
from tokenrank_guidance.commands.report import Json, sample_report
from tokenrank_guidance.commands.tiles import contact_sheet

EMBEDDED_PROMPTS = tuple(
    f"a photo of a {label}" for label in ("church", "parachute", "garbage truck", "golf ball")
)
COMPARISON = "comparison.png"


def add_arguments(parser: ArgumentParser) -> None:
    """Describe the command's options."""
    add_model_arguments(parser)
    _add_sampling_arguments(parser)
    _add_guidance_arguments(parser)
    _add_output_arguments(parser)


def _add_sampling_arguments(parser: ArgumentParser) -> None:
    group = parser.add_argument_group("sampling")
    group.add_argument(
        "--prompt", action="append", help="text, or a class; again for more; embedded models have some"
    )
    group.add_argument("--negative-prompt", metavar="TEXT")
    group.add_argument(
        "--cfg", type=finite, metavar="W", help="classifier-free guidance; the model's own, embedded: 4"
    )
    group.add_argument("--steps", type=at_least(1), default=24, help="default: %(default)s")
    group.add_argument(
        "--seed", type=at_least(0), default=0, help="of a prompt's first image; the next has seed + 1"
    )
    group.add_argument("--n", type=at_least(1), help="images per prompt; default: 2, with FILE.png 1")
    group.add_argument("--height", type=at_least(1), metavar="PIXELS")
    group.add_argument("--width", type=at_least(1), metavar="PIXELS")
    group.add_argument(
        "--batch-size", type=at_least(1), default=4, metavar="N", help="images at once; default: %(default)s"
    )


def _add_guidance_arguments(parser: ArgumentParser) -> None:
    default, group = SelfAttentionGuidance(), parser.add_argument_group("guidance")
    group.add_argument("--guidance", choices=ARMS, help="default: tokenrank")
    group.add_argument(
        "--compare", action="store_true", help="all three, from the same seeds, and a picture of them"
    )
    group.add_argument(
        "--scale", type=finite, default=default.sag_scale, metavar="S", help="default: %(default)s"
    )
    group.add_argument(
        "--layers",
        type=layer,
        nargs="+",
        default=["auto"],
        metavar="LAYER",
        help="auto, all, names or indices",
    )
    group.add_argument(
        "--threshold", type=finite, default=default.threshold, help="blur tokens that score above it"
    )
    group.add_argument(
        "--mask", choices=tuple(MASKS), default=default.mask, help="soft: blur in proportion to the score"
    )
    group.add_argument("--blur-sigma", type=finite, default=default.blur_sigma, help="in latent pixels")
    group.add_argument(
        "--start", type=finite, default=default.start, help="guide from this fraction of the steps on"
    )
    group.add_argument("--stop", type=finite, default=default.stop, help="… up to this one")
    group.add_argument(
        "--every", type=at_least(1), default=default.every, help="guide each N-th step", metavar="N"
    )
    group.add_argument(
        "--reuse",
        type=at_least(1),
        default=default.reuse,
        help="make the extra pass in each N-th guided step, and add its shift in the others",
        metavar="N",
    )
    group.add_argument(
        "--rescale",
        type=finite,
        default=default.rescale,
        metavar="PHI",
        help="at 1 (default) the guided latents keep their contrast, at 0 it may rise, as published",
    )
    group.add_argument(
        "--damping", type=finite, default=default.damping, help="of TokenRank; default: %(default)s"
    )
    group.add_argument(
        "--head-weights", choices=HEAD_WEIGHTS, default=default.head_weights, help="of TokenRank"
    )


def _add_output_arguments(parser: ArgumentParser) -> None:
    group = parser.add_argument_group("output")
    group.add_argument(
        "--out", type=Path, default=Path("samples"), metavar="DIR|FILE.png", help="default: %(default)s"
    )


def run(arguments: Namespace) -> Json:
    """Draw the images, write them and the result to `--out`, and return that result.

    What can be found wrong beforehand is raised, the output proved writable, before the first image is drawn.
    """
    arms, guidance, single = _arms(arguments), _guidance(arguments), _is_file(arguments)
    folder = arguments.out.parent if single else arguments.out
    with staged(folder) as scratch:
        model = open_model(arguments)
        study = _study(arguments, model, guidance, single)
        study.check(arms)
        drawn = {name: _draw(study, name) for name in arms}
        names = {arm: _names(arguments.out.name if single else None, arm, len(study.jobs)) for arm in arms}
        pictures = _images(drawn, names) if single else _pictures(study, drawn, model.name, names)
        for name, picture in pictures.items():
            picture.save(scratch / name, "PNG", optimize=True)
        files = {arm: [str(folder / name) for name in names[arm]] for arm in arms}
        result = sample_report(arguments, model, study, drawn, files)
        result["files"] = [str(folder / name) for name in pictures]
        if not single:
            (scratch / RESULT).write_text(json.dumps(result, indent=2, allow_nan=False) + "\n")
    say(f"picture: {folder / next(iter(pictures))}")
    return result


def _is_file(arguments: Namespace) -> bool:
    """Whether `--out` names one picture instead of a folder."""
    out = arguments.out
    if out.suffix.lower() != ".png" or out.is_dir():
        return False
    if arguments.compare or (arguments.n or 1) > 1 or len(arguments.prompt or [""]) > 1:
        raise ValueError(f"--out {out} has room for one image; name a folder")
    return True


def _arms(arguments: Namespace) -> tuple[str, ...]:
    if not arguments.compare:
        return (arguments.guidance or "tokenrank",)
    if arguments.guidance is not None:
        raise ValueError("--compare draws every kind of guidance; leave --guidance out")
    return ARMS


def _guidance(arguments: Namespace) -> SelfAttentionGuidance:
    return SelfAttentionGuidance(
        sag_scale=arguments.scale,
        layers=arguments.layers[0] if len(arguments.layers) == 1 else arguments.layers,
        damping=arguments.damping,
        head_weights=arguments.head_weights,
        threshold=arguments.threshold,
        blur_sigma=arguments.blur_sigma,
        start=arguments.start,
        stop=arguments.stop,
        every=arguments.every,
        reuse=arguments.reuse,
        rescale=arguments.rescale,
        mask=arguments.mask,
    )


def _study(arguments: Namespace, model: Model, guidance: SelfAttentionGuidance, single: bool) -> Study:
    cfg = model.cfg(arguments.cfg)
    sampling = Sampling(arguments.steps, cfg, arguments.negative_prompt, arguments.height, arguments.width)
    prompts = arguments.prompt or (EMBEDDED_PROMPTS[: 1 if single else None] if model.embedded else ())
    jobs = jobs_for(model.pipe, prompts, arguments.n or (1 if single else 2), arguments.seed)
    return Study(model.pipe, sampling, guidance, jobs, arguments.batch_size)


def _draw(study: Study, name: str) -> Arm:
    arm = study.draw(name)
    overlap = "" if arm.overlap is None else f", overlap with the other masks {arm.overlap.mean():.2f}"
    say(f"{name}: {len(arm.images)} images in {arm.seconds:.1f} s{overlap}")
    return arm


def _names(single: str | None, arm: str, count: int) -> list[str]:
    return [f"{arm}-{i:03d}.png" for i in range(count)] if single is None else [single]


def _images(drawn: Mapping[str, Arm], names: Mapping[str, list[str]]) -> dict[str, Image.Image]:
    """Every drawn image under its file's name."""
    return {name: image for arm in drawn for name, image in zip(names[arm], drawn[arm].images, strict=True)}


def _pictures(
    study: Study, drawn: Mapping[str, Arm], model: str, names: Mapping[str, list[str]]
) -> dict[str, Image.Image]:
    """Every picture of a folder under its file's name, the one to look at first."""
    compared = Comparison(drawn, study.jobs, _caption(study, model)).picture() if len(drawn) > 1 else None
    sheets = {f"{name}.png": contact_sheet(arm.images, study.per_prompt) for name, arm in drawn.items()}
    return ({} if compared is None else {COMPARISON: compared}) | sheets | _images(drawn, names)


def _caption(study: Study, model: str) -> str:
    sampling, scheduler = study.sampling, type(study.pipe.scheduler).__name__
    cfg = "" if sampling.cfg is None else f"classifier-free guidance {sampling.cfg:g} in every column, "
    return (
        f"{model}, {sampling.steps} steps of {scheduler}, {cfg}"
        f"guidance scale {study.guidance.sag_scale:g}, rescale {study.guidance.rescale:g}, "
        f"{study.guidance.mask} masks at threshold {study.guidance.threshold:g}."
    )
