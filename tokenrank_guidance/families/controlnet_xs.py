"""ControlNet-XS: Stable Diffusion's UNet with a second, thin one beside it, whose own layers are left out."""

from __future__ import annotations

from dataclasses import replace

from torch import nn

from tokenrank_guidance.families.family import Family
from tokenrank_guidance.families.unet import CALLING, TOKENS


def _base(model: nn.Module) -> dict[str, bool]:
    return {name: kind for name, kind in TOKENS.attention(model).items() if ".ctrl_" not in name}


CONTROLNET_XS = Family(
    models=("UNetControlNetXSModel",), tokens=replace(TOKENS, attention=_base), calling=CALLING
)
FAMILIES = (CONTROLNET_XS,)
