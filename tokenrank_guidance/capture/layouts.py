"""Every model family that is known, found by class name, so that no model class is imported here.

A family is one `Layout`; its functions are small and pure: they read module names and the inputs of one
forward call, nothing else.
"""

from torch import nn

from tokenrank_guidance.capture.denoisers import DENOISERS
from tokenrank_guidance.capture.joint import JOINT
from tokenrank_guidance.capture.layout import Layout
from tokenrank_guidance.capture.vits import VITS
from tokenrank_guidance.errors import UnsupportedError

LAYOUTS: list[Layout] = [*DENOISERS, *JOINT, *VITS]


def find_layout(model: nn.Module) -> Layout:
    """The layout of `model`'s class or of its nearest known base; UnsupportedError if there is none."""
    if not isinstance(model, nn.Module):
        raise TypeError(
            "expected a network such as a vision transformer, pipe.unet or pipe.transformer, "
            f"got {type(model).__name__}"
        )
    for base in type(model).__mro__:
        for layout in LAYOUTS:
            if layout.fits(base):
                return layout
    raise UnsupportedError(
        f"no token layout is known for {type(model).__name__}; known: {', '.join(map(_names, LAYOUTS))}. "
        "Add a Layout to tokenrank_guidance.capture.layouts.LAYOUTS"
    )


def _names(layout: Layout) -> str:
    return ", ".join(f"{layout.package}.{name}".lstrip(".") for name in layout.models)
