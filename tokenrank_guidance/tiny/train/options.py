"""The arguments of `python -m tokenrank_guidance.tiny.train`, read before anything heavy is imported."""

from __future__ import annotations

from argparse import ArgumentTypeError, Namespace
from collections.abc import Sequence
from pathlib import Path

from tokenrank_guidance.option_groups import refuse_without_effect
from tokenrank_guidance.options import (
    ABOVE_SEEDS,
    at_least,
    between,
    file,
    folder,
    named,
    positive,
    positive_number,
)
from tokenrank_guidance.program import parser_of
from tokenrank_guidance.tiny.choices import (
    AUTOENCODER_BATCH,
    AUTOENCODER_IMAGES,
    IMAGES,
    NAMES,
    SEED_STRIDE,
)

MOST_VIEWS = 64
DESCRIPTION = (
    "Train an embedded model: first the autoencoder, then the denoiser on its latents. Both stages resume "
    "from their checkpoints, which lie outside the repository; ask for more --images, or --minutes, to go on."
)


def parse(argv: Sequence[str]) -> Namespace:
    """Read the arguments; ValueError for a mistake."""
    parser = parser_of("python -m tokenrank_guidance.tiny.train", DESCRIPTION)
    parser.add_argument("name", choices=NAMES)
    parser.add_argument("--data", type=file, required=True, help="objects16_train128.parquet")
    parser.add_argument("--checkpoints", type=folder, default=Path.home() / ".cache/tokenrank-training")
    parser.add_argument("--start-from", type=file, help="folder of a trained pipeline to go on from")
    parser.add_argument(
        "--autoencoder", type=file, help="folder of a trained pipeline whose autoencoder to share"
    )
    parser.add_argument("--out", type=folder, help="write the trained pipeline here at the end")
    parser.add_argument("--resolution", type=_side, default=128, help="side of the training images in pixels")
    parser.add_argument(
        "--images", type=positive, help=f"images seen by the denoiser in all (default: {IMAGES})"
    )
    parser.add_argument(
        "--minutes",
        type=positive_number,
        help="train the denoiser by the clock instead, for that long in all",
    )
    parser.add_argument(
        "--views",
        type=between(1, MOST_VIEWS),
        default=6,
        help="latents of each image: whole, mirrored, and crops of at least 80 %% (default: 6)",
    )
    parser.add_argument(
        "--milestones",
        type=_counts,
        default=(),
        metavar="N,N,…",
        help="numbers of images seen at which the pipeline is kept too, in the checkpoints' folder",
    )
    parser.add_argument(
        "--autoencoder-images", type=at_least(AUTOENCODER_BATCH), help=f"default: {AUTOENCODER_IMAGES}"
    )
    parser.add_argument("--batch", type=positive, default=64)
    parser.add_argument("--rate", type=positive_number, default=1e-3, help="peak learning rate")
    parser.add_argument("--seed", type=between(0, ABOVE_SEEDS // SEED_STRIDE // 2), default=0)
    parser.add_argument("--device", type=named, default="auto", help="the GPU where there is one")
    parser.add_argument(
        "--compile",
        choices=("auto", "yes", "no"),
        default="auto",
        help="torch.compile the denoiser, unless that fails (default: auto, on a GPU)",
    )
    return _checked(parser.parse_args(argv))


def _checked(options: Namespace) -> Namespace:
    if options.minutes is not None:
        refuse_without_effect(options, ["images"], "--minutes says how long is trained")
    else:
        options.images = options.images or IMAGES
        _check_images(options)
    if options.autoencoder or options.start_from:
        refuse_without_effect(options, ["autoencoder_images"], "a trained autoencoder is given")
    options.autoencoder_images = options.autoencoder_images or AUTOENCODER_IMAGES
    return options


def _check_images(options: Namespace) -> None:
    if options.images < options.batch:
        raise ValueError(f"--images {options.images} is less than one --batch of {options.batch}")
    beyond = [count for count in options.milestones if count > options.images]
    if beyond:
        raise ValueError(f"--milestones: {beyond[0]} is more than --images {options.images}")


def _side(text: str) -> int:
    """A side that the models can halve as often as they do."""
    side = between(16, 1024)(text)
    if side % 16:
        raise ArgumentTypeError(f"expected a multiple of 16, got {text!r}")
    return side


def _counts(text: str) -> tuple[int, ...]:
    try:
        counts = tuple(int(part) for part in text.split(","))
    except ValueError:
        counts = (0,)
    if min(counts) < 1:
        raise ArgumentTypeError(f"got {text!r}; expected numbers of images, as 20000,80000")
    return counts
