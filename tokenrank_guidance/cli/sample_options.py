"""The arguments of `tokenrank sample`."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from pathlib import Path

from sag.kinds import NONE, PAG, PAG_SCALE, TITLES
from sag.scorers import HEAD_WEIGHTS, SCORERS, unread_by
from sag.settings import MASK_KINDS, GuidanceSettings
from tokenrank_guidance.option_groups import (
    MOST_STEPS,
    add_model_arguments,
    keep_working,
    refuse_without_effect,
)
from tokenrank_guidance.options import (
    ABOVE_SEEDS,
    at_least,
    between,
    damping,
    file,
    finite,
    folder,
    layer,
    positive,
    positive_number,
)

SUMMARY = "Draw images from a diffusion model without guidance, with SAG, TokenRank or PAG."
MOST = 10_000  # of a prompt; all are held for the sheets. `eval.generate` draws more, and resumes
ARMS = tuple(TITLES)
COMPARED = ("sag", "tokenrank")  # by --compare, beside none
ROWS = 4  # images that a comparison shows, if there are no more prompts
N_HELP = "images per prompt; default: 2, with FILE.png 1, with --compare as many as it shows"
OF_GUIDANCE = (  # each a field of `SelfAttentionGuidance`, but "scale", which is sag_scale there
    "scale",
    "layers",
    "threshold",
    "mask",
    "blur_sigma",
    "start",
    "stop",
    "every",
    "reuse",
    "keep_contrast",
    "damping",
    "head_weights",
)


def add_arguments(parser: ArgumentParser) -> None:
    """Describe the command's options."""
    add_model_arguments(parser)
    _add_sampling_arguments(parser)
    _add_guidance_arguments(parser)
    group = parser.add_argument_group("output")
    group.add_argument(
        "--out",
        type=_picture_or_folder,
        default=Path("samples"),
        metavar="DIR|FILE.png",
        help="default: %(default)s",
    )


def check(arguments: Namespace) -> None:
    """ValueError for what the arguments cannot be together."""
    if arguments.compare and arguments.guidance is not None:
        raise ValueError("--compare draws every kind of guidance; leave --guidance out")
    if not arguments.compare and arguments.guidance == NONE:
        refuse_without_effect(arguments, OF_GUIDANCE, "nothing is guided with --guidance none")
    if not arguments.compare and arguments.guidance == PAG:
        refuse_without_effect(
            arguments, OF_GUIDANCE[1:], "PAG, which is diffusers' own, takes a --scale alone"
        )
    if not arguments.compare and arguments.guidance in SCORERS:
        why = f"not read by --guidance {arguments.guidance}"
        refuse_without_effect(arguments, unread_by(arguments.guidance), why)
    if one_picture(arguments) and (
        arguments.compare or (arguments.n or 1) > 1 or len(arguments.prompt or [""]) > 1
    ):
        raise ValueError(f"--out {arguments.out} has room for one image; name a folder")
    prompts = arguments.prompt or []
    if len(set(prompts)) < len(prompts):
        raise ValueError("--prompt: the same text is given twice; --n draws more images of each")
    if arguments.seed + images_of_each(arguments) > ABOVE_SEEDS:
        raise ValueError(f"--seed {arguments.seed} with --n {arguments.n}: seeds reach beyond 63 bits")
    settings_of(arguments)


def other_of(arm: str) -> str:
    """What a guided arm's masks are compared with."""
    return COMPARED[0] if arm != COMPARED[0] else COMPARED[1]


def one_picture(arguments: Namespace) -> bool:
    """Whether `--out` names one picture instead of a folder."""
    return arguments.out.suffix.lower() == ".png" and not arguments.out.is_dir()


def images_of_each(arguments: Namespace, prompts: int = 1) -> int:
    """How many images of each of so many prompts; unless told, of many no more than a comparison shows."""
    few = 1 if one_picture(arguments) or (arguments.compare and 2 * prompts > ROWS) else 2
    return arguments.n or few


def settings_of(arguments: Namespace) -> GuidanceSettings:
    """All of the guidance but its scorer; ValueError where one is out of its range."""
    given = {name: getattr(arguments, name) for name in OF_GUIDANCE if getattr(arguments, name) is not None}
    if "scale" in given:
        given["sag_scale"] = given.pop("scale")
    elif arguments.guidance == PAG:
        given["sag_scale"] = PAG_SCALE
    if len(given.get("layers", ())) == 1:
        given["layers"] = given["layers"][0]
    return GuidanceSettings(**given)


def _picture_or_folder(text: str) -> Path:
    path = file(text)
    return path if path.suffix.lower() == ".png" else folder(text)


def _add_sampling_arguments(parser: ArgumentParser) -> None:
    group = parser.add_argument_group("sampling")
    group.add_argument(
        "--prompt", action="append", help="text, or a class; again for more; embedded models have some"
    )
    group.add_argument("--negative-prompt", metavar="TEXT")
    group.add_argument(
        "--cfg", type=finite, metavar="W", help="classifier-free guidance; the model's own, embedded: 4"
    )
    group.add_argument("--steps", type=between(1, MOST_STEPS), default=24, help="default: %(default)s")
    group.add_argument(
        "--seed", type=at_least(0), default=0, help="of a prompt's first image; the next has seed + 1"
    )
    group.add_argument("--n", type=between(1, MOST), help=N_HELP)
    group.add_argument("--height", type=positive, metavar="PIXELS")
    group.add_argument("--width", type=positive, metavar="PIXELS")
    group.add_argument(
        "--batch-size", type=positive, default=4, metavar="N", help="images at once; default: %(default)s"
    )


def _add_guidance_arguments(parser: ArgumentParser) -> None:
    default, group = GuidanceSettings(), parser.add_argument_group("guidance")
    group.add_argument("--guidance", choices=ARMS, help="default: tokenrank")
    group.add_argument(
        "--compare",
        action="store_true",
        help="none, sag and tokenrank from the same seeds, and a picture of them",
    )
    group.add_argument(
        "--scale", type=finite, metavar="S", help=f"default: {default.sag_scale}, of pag {PAG_SCALE:g}"
    )
    group.add_argument(
        "--layers", type=layer, nargs="+", metavar="LAYER", help="auto (default), all, names or indices"
    )
    group.add_argument(
        "--threshold", type=finite, help=f"blur tokens that score above it; {default.threshold}"
    )
    group.add_argument("--mask", choices=MASK_KINDS, help="soft: blur in proportion to the score")
    group.add_argument("--blur-sigma", type=positive_number, help=f"in latent pixels; {default.blur_sigma}")
    group.add_argument("--start", type=finite, help="guide from this fraction of the steps on; 0")
    group.add_argument("--stop", type=finite, help="… up to this one; 1")
    group.add_argument("--every", type=positive, help="guide each N-th step; 1", metavar="N")
    group.add_argument(
        "--reuse",
        type=positive,
        help="make the extra pass in each N-th guided step, and add its shift in the others; 1",
        metavar="N",
    )
    contrast = group.add_argument(
        "--keep-contrast",
        type=finite,
        metavar="PHI",
        help="at 1 (default) the guided latents keep their contrast, at 0 it may rise, as published",
    )
    keep_working(group, "--rescale", contrast)
    group.add_argument("--damping", type=damping, help=f"of TokenRank; default: {default.damping}")
    group.add_argument("--head-weights", choices=HEAD_WEIGHTS, help=f"of TokenRank; {default.head_weights}")
