"""The same seed without guidance and with each kind of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image

from sag.degraded import GuidedStep
from sag.guidance import SelfAttentionGuidance
from sag.scorers import SCORERS
from tokenrank_guidance.app.passes import Captured, drawing, drawing_arguments
from tokenrank_guidance.app.scene import Heat, Scene
from tokenrank_guidance.app.state import State
from tokenrank_guidance.app.watching import Watch
from tokenrank_guidance.errors import UnsupportedError

NAMES = {"none": "unguided", **{name: scorer.title for name, scorer in SCORERS.items()}}
GAIN = 4.0  # by which differences of pixels, in [0, 1], are shown larger


@dataclass(frozen=True, eq=False)
class Guided:
    """A picture and what guidance blurred for it, step by step."""

    name: str
    image: Image.Image
    steps: list[GuidedStep]


@torch.no_grad()
def guided(captured: Captured, arm: str, scale: float, watch: Watch) -> Guided:
    """The source's picture under one kind of guidance; UnsupportedError where it cannot be guided."""
    opened, source = captured.opened, captured.source
    pipe = opened.pipe
    if not source.drawn:
        raise UnsupportedError(
            "guidance acts while a picture is drawn, and this one is given: write a prompt"
        )
    with drawing(opened, source, watch, NAMES.get(arm, arm)), guidance_of(arm, scale)(pipe) as guidance:
        image = pipe(**drawing_arguments(opened, source)).images[0]
    return Guided(arm, image, guidance.steps)


def guidance_of(arm: str, scale: float) -> SelfAttentionGuidance:
    """One kind of guidance by its scorer's name; ValueError for an unknown one."""
    return SelfAttentionGuidance(scorer=arm, sag_scale=scale)


def show_guidance(captured: Captured, state: State, watch: Watch) -> Scene:
    """Pictures to compare, their differences, and each step's mask."""
    if not state.arms:
        raise ValueError(f"arms: got none, expected some of {', '.join(SCORERS)}")
    plain = captured.shown
    arms = [guided(captured, arm, state.scale, watch) for arm in state.arms]
    images: dict[str, Image.Image] = {NAMES["none"]: plain}
    heats: list[Heat] = []
    for arm in arms:
        images[NAMES[arm.name]] = arm.image
        heats += [_mask(arm, step) for step in arm.steps]
    images |= {f"difference:{NAMES[arm.name]}": difference(arm.image, plain) for arm in arms}
    return Scene(
        view=state.view,
        picture=plain,
        title="Guided against unguided",
        facts=(
            f"seed {captured.source.seed}, scale {state.scale:g}",
            f"differences {GAIN:g} times as bright",
        ),
        heats=tuple(heats),
        unit="blurred",
        images=images,
        grid=tuple(heats[0].values.shape) if heats else (0, 0),  # type: ignore[arg-type]
    )


def difference(image: Image.Image, plain: Image.Image) -> Image.Image:
    """|a − b|, mean over channels, from dark to bright."""
    a, b = (np.asarray(one.convert("RGB"), np.float32) / 255 for one in (image, plain))
    from tokenrank_guidance.drawing import heat

    return heat(GAIN * np.abs(a - b).mean(-1), image.size)


def _mask(arm: Guided, step: GuidedStep) -> Heat:
    values: Any = step.mask[0].float().cpu().numpy()
    share = f"{100 * float(values.mean()):.0f} % blurred"
    return Heat(f"{NAMES[arm.name]}, step {step.number + 1}", values, 0.0, 1.0, share)
