"""The arguments of `tokenrank explain`."""

from __future__ import annotations

from argparse import ArgumentParser, ArgumentTypeError, Namespace
from pathlib import Path

from diffseg.zero_shot.options import MOST_BOUNCES, MOST_DRAWS, Options
from tokenrank_guidance.option_groups import (
    MOST_STEPS,
    add_model_arguments,
    keep_working,
    refuse_without_effect,
)
from tokenrank_guidance.options import at_least, between, file, finite, folder, layer, positive

SUMMARY = "Show where attention leads from a word, bounce by bounce; what a video's tokens are worth."

CHANGES = ("direction", "draws", "head_weights", "n", "resolution", "seed")
STEPS = 24  # of drawing
BOUNCES = (2, 3, 5)  # one is row or column select, which is shown anyway
OF_WORDS = ("caption", "bounces", "n", "direction")
OF_DRAWING = ("steps", "cfg", "negative_prompt", "height", "width", "frames", "scheduler")
OF_READING = ("caption", "timesteps", "draws", "resolution")


def words(text: str) -> list[str]:
    """A parser of comma-separated words."""
    found = [part.strip() for part in text.split(",") if part.strip()]
    if not found:
        raise ArgumentTypeError(f"expected words such as 'church, sky', got {text!r}")
    return found


def add_arguments(parser: ArgumentParser) -> None:
    """Describe the command's options."""
    parser.add_argument("image", type=file, nargs="?", metavar="IMAGE", help="a picture of any size")
    parser.add_argument("--prompt", metavar="TEXT", help="draw a picture or a video of this instead")
    parser.add_argument(
        "--concepts",
        type=words,
        metavar="WORDS",
        help='"church, sky": where walks start; not needed for videos',
    )
    parser.add_argument("--caption", metavar="TEXT", help='of IMAGE; "a church, a sky"')
    add_model_arguments(parser)
    _add_walk_arguments(parser)
    group = parser.add_argument_group("drawing", "with --prompt")
    group.add_argument("--steps", type=between(1, MOST_STEPS), metavar="N", help=f"default: {STEPS}")
    group.add_argument("--cfg", type=finite, metavar="W", help="the model's own, embedded: 4")
    group.add_argument("--negative-prompt", metavar="TEXT")
    group.add_argument("--height", type=positive, metavar="PIXELS")
    group.add_argument("--width", type=positive, metavar="PIXELS")
    group.add_argument("--frames", type=positive, metavar="N", help="of a video; the model's own")
    group = parser.add_argument_group("output")
    group.add_argument(
        "--out", type=folder, default=Path("explained"), metavar="DIR", help="default: %(default)s"
    )


def check(arguments: Namespace) -> None:
    """ValueError unless there is one of picture and prompt, and for options that are the other one's."""
    if (arguments.image is None) == (arguments.prompt is None):
        raise ValueError("give either a picture or a --prompt to draw one")
    if arguments.image is None:
        refuse_without_effect(
            arguments, OF_READING, "a drawn picture is read under its own prompt, in its own steps"
        )
    else:
        refuse_without_effect(
            arguments, OF_DRAWING, "IMAGE is read, and nothing is drawn; give --prompt to draw"
        )
    concepts = arguments.concepts or []
    twice = sorted({word for word in concepts if concepts.count(word) > 1})
    if twice:
        raise ValueError(f"concepts: {', '.join(twice)} asked for more than once")


def _add_walk_arguments(parser: ArgumentParser) -> None:
    default, group = Options(), parser.add_argument_group("walks")
    bounces = between(1, MOST_BOUNCES)
    group.add_argument(
        "--bounces", type=bounces, nargs="+", metavar="N", help=f"shown; {' '.join(map(str, BOUNCES))}"
    )
    mask = group.add_argument(
        "--mask-bounces", dest="n", type=bounces, metavar="N", help=f"of the mask; {default.n}"
    )
    keep_working(group, "--n", mask)
    group.add_argument(
        "--direction",
        choices=("outgoing", "incoming"),
        help="of steps over words and image; else to who attends, within the image",
    )
    group.add_argument("--head-weights", choices=("lambda2", "mean"), help=f"{default.head_weights}")
    group.add_argument(
        "--layers", type=layer, nargs="+", metavar="LAYER", help="auto, all, names or indices; the late ones"
    )
    group.add_argument(
        "--timesteps", type=at_least(0), nargs="+", metavar="T", help="of 1000, that IMAGE is noised to; 500"
    )
    group.add_argument(
        "--draws", type=between(1, MOST_DRAWS), metavar="N", help=f"of noise, at each; {default.draws}"
    )
    group.add_argument("--resolution", type=positive, metavar="PIXELS", help="√(pixels) of IMAGE worked at")
    group.add_argument("--seed", type=at_least(0), metavar="N", help=f"{default.seed}")
