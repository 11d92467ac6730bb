"""What rows of the support matrix are made of."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import diffusers as d
import torch
from torch import Tensor, nn

from tests import tiny_networks as tiny
from tests.tiny_models import ARGUMENTS, Call, ddim, pipeline, sharpen

STEPS = 3
SIDE = 32
IMAGE = torch.rand(1, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(9))
MASK = torch.zeros(1, 1, SIDE, SIDE)
MASK[..., : SIDE // 2] = 1
Arguments = dict[str, Any]


@dataclass(frozen=True)
class Row:
    """One pipeline: its `family`, how to build it, and the arguments its call has beside the family's.

    `refused`: the text, or part of it, of the error that guiding it raises; empty where guidance works.
    `own`: the call's arguments, in place of the family's. `channels`: how many of its output are noisy, where
    that is fewer than go in and come out. `drawn`: the part of its output that is not given with its input.
    `without`: features that its family has and it has not. `leaves`: what the pipeline itself leaves on its
    denoiser after an error, by the names of `tests.sag.helpers.traces`.
    """

    family: str
    build: Callable[[], Any]
    extra: Arguments = field(default_factory=dict)
    drop: tuple[str, ...] = ()
    refused: str = ""
    own: Callable[[Call], Arguments] | None = None
    channels: int | None = None
    drawn: Callable[[Tensor], Tensor] = lambda output: output
    without: tuple[str, ...] = ()
    leaves: tuple[str, ...] = ()

    def arguments(self, call: Call) -> Arguments:
        extra = {
            name: torch.cat([value] * call.batch) if isinstance(value, Tensor) else value
            for name, value in self.extra.items()
        }
        own = (self.own or ARGUMENTS[self.family])(call) | {"num_inference_steps": call.steps} | extra
        return {name: value for name, value in own.items() if name not in self.drop}


def seeded(build: Callable[[], nn.Module]) -> Any:
    """A network from a fixed seed, whose attention maps are far from uniform."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = build().eval()
    sharpen(network)
    return network


def quiet(pipe: Any) -> Any:
    pipe.set_progress_bar_config(disable=True)
    return pipe


def variant(family: str, cls: type, **parts: Any) -> Any:
    """A pipeline of another class on the components of `family`, some of them exchanged by `parts`."""
    taken = inspect.signature(cls.__init__).parameters
    components = {k: part for k, part in (pipeline(family).components | parts).items() if k in taken}
    if components.get("vae") is not None:
        components["vae"].register_to_config(shift_factor=0.1)  # SD3 and FLUX encode with it
    options = {"requires_safety_checker": False} if family == "sd" else {}
    options |= {"add_watermarker": False} if family == "sdxl" else {}
    return quiet(cls(**components, **{name: value for name, value in options.items() if name in taken}))


def square_unet(family: str, channels: int) -> Any:
    """The family's UNet with another number of input channels, saying its size in one number."""
    built = tiny.unet() if family == "sd" else tiny.unet_xl()
    config = dict(built.config) | {"in_channels": channels, "sample_size": 16}
    config.pop("_use_default_values")  # would bring back the usual number of channels
    return seeded(lambda: d.UNet2DConditionModel.from_config(config))


def without_weights(cls: type) -> Any:
    """A pipeline of a denoiser that is refused before it runs: its class is all that is looked at."""
    network: Any = cls.__new__(cls)
    nn.Module.__init__(network)
    return SimpleNamespace(transformer=network, scheduler=ddim())


def refused(cls: type, reason: str) -> Row:
    return Row("none", lambda: without_weights(cls), refused=reason)


def named(family: str) -> Row:
    return Row(family, lambda: pipeline(family))


def image_to_image(family: str, cls: type) -> Row:
    unet = family in ("sd", "sdxl")
    return Row(
        family,
        lambda: variant(family, cls, **({"unet": square_unet(family, 4)} if unet else {})),
        {"image": IMAGE, "strength": 0.9},
        ("height", "width") if unet else (),
    )


def inpaint(family: str, cls: type, channels: int) -> Row:
    return Row(
        family,
        lambda: variant(family, cls, unet=square_unet(family, channels)),
        {"image": IMAGE, "mask_image": MASK, "strength": 0.9},
    )


def run(pipe: Any, arguments: Arguments, seed: int = 0) -> Tensor:
    """Latents, or images where the pipeline has none."""
    with torch.random.fork_rng(devices=[]):  # SD3's ControlNet draws its image's latents from the global one
        torch.manual_seed(seed)
        images = pipe(**arguments, generator=torch.Generator().manual_seed(seed))[0]
    return torch.as_tensor(images)
