"""Networks beside a UNet that hand it features of a control image."""

from __future__ import annotations

from typing import Any

import diffusers as d
import torch
from torch import nn

from tests.matrix.building import seeded, variant
from tests.tiny_models import denoiser, pipeline


def controlnet(unet: Any) -> Any:
    """Its outer convolutions start at zero, which would hide whether image and residuals arrive."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        net = d.ControlNetModel.from_unet(unet, conditioning_embedding_out_channels=(4, 8))
        for part in (
            net.controlnet_cond_embedding.conv_out,
            net.controlnet_down_blocks,
            net.controlnet_mid_block,
        ):
            for parameter in part.parameters():
                nn.init.normal_(parameter, std=0.3)
    return net.eval()


def with_controlnet(family: str, cls: type, unet: Any = None) -> Any:
    unet = unet or denoiser(pipeline(family))
    return variant(family, cls, unet=unet, controlnet=controlnet(unet))


def adapter() -> Any:
    """One feature map for each level of the tiny UNet, in the width of that level."""
    return seeded(
        lambda: d.T2IAdapter(
            3, channels=[16, 32], num_res_blocks=1, downscale_factor=2, adapter_type="full_adapter"
        )
    )
