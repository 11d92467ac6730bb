"""The same seed without guidance and with each kind of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image

from sag.degraded import GuidedStep
from sag.guidance import SelfAttentionGuidance
from sag.kinds import NONE, PAG, TITLES
from sag.perturbed import perturbed, processors_kept
from tokenrank_guidance.app.passes import Captured, drawing, drawing_arguments
from tokenrank_guidance.app.scene import Heat, Scene
from tokenrank_guidance.app.state import State
from tokenrank_guidance.app.watching import Watch
from tokenrank_guidance.errors import UnsupportedError

GAIN = 4.0  # by which differences of pixels, in [0, 1], are shown larger


@dataclass(frozen=True, eq=False)
class Guided:
    """A picture and what guidance blurred for it, step by step; PAG blurs nothing."""

    name: str
    image: Image.Image
    steps: list[GuidedStep]


@torch.no_grad()
def guided(captured: Captured, arm: str, state: State, watch: Watch) -> Guided:
    """The source's picture under one kind of guidance; UnsupportedError where it cannot be guided."""
    opened, source = captured.opened, captured.source
    pipe, arguments = opened.pipe, drawing_arguments(opened, source)
    with drawing(opened, source, watch, TITLES[arm]):
        if arm == PAG:
            with processors_kept(pipe):
                return Guided(arm, perturbed(pipe)(**arguments, pag_scale=state.pag_scale).images[0], [])
        with SelfAttentionGuidance(scorer=arm, sag_scale=state.scale)(pipe) as guidance:
            return Guided(arm, pipe(**arguments).images[0], guidance.steps)


def show_guidance(captured: Captured, state: State, watch: Watch) -> Scene:
    """Pictures to compare, their differences, and each step's mask."""
    _check(captured, state)
    plain = captured.shown
    arms = [guided(captured, arm, state, watch) for arm in state.arms]
    images: dict[str, Image.Image] = {TITLES[NONE]: plain}
    heats: list[Heat] = []
    for arm in arms:
        images[TITLES[arm.name]] = arm.image
        heats += [_mask(arm, step) for step in arm.steps]
    images |= {f"difference:{TITLES[arm.name]}": difference(arm.image, plain) for arm in arms}
    return Scene(
        view=state.view,
        picture=plain,
        title="Guided against unguided",
        facts=(
            f"seed {captured.source.seed}, {_scales(state)}",
            f"differences {GAIN:g} times as bright",
        ),
        heats=tuple(heats),
        unit="blurred",
        images=images,
        grid=tuple(heats[0].values.shape) if heats else (0, 0),  # type: ignore[arg-type]
    )


def _check(captured: Captured, state: State) -> None:
    """All that can be refused, before anything is drawn."""
    known = [name for name in TITLES if name != NONE]
    if not state.arms or not set(state.arms) <= set(known):
        got = ", ".join(state.arms) or "none"
        raise ValueError(f"arms: got {got}, expected some of {', '.join(known)}")
    pipe = captured.opened.pipe
    if not captured.source.drawn:
        raise UnsupportedError(
            "guidance acts while a picture is drawn, and this one is given: write a prompt"
        )
    if PAG in state.arms:
        perturbed(pipe)


def _scales(state: State) -> str:
    scales = [f"scale {state.scale:g}"] if set(state.arms) - {PAG} else []
    return ", ".join([*scales, *([f"PAG's scale {state.pag_scale:g}"] if PAG in state.arms else [])])


def difference(image: Image.Image, plain: Image.Image) -> Image.Image:
    """|a − b|, mean over channels, from dark to bright."""
    a, b = (np.asarray(one.convert("RGB"), np.float32) / 255 for one in (image, plain))
    from tokenrank_guidance.drawing import heat

    return heat(GAIN * np.abs(a - b).mean(-1), image.size)


def _mask(arm: Guided, step: GuidedStep) -> Heat:
    values: Any = step.mask[0].float().cpu().numpy()
    share = f"{100 * float(values.mean()):.0f} % blurred"
    return Heat(f"{TITLES[arm.name]}, step {step.number + 1}", values, 0.0, 1.0, share)
