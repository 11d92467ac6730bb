"""Rows of BLIP-Diffusion, which reads a picture of a subject, and of ConsisID, which reads a face."""

from __future__ import annotations

from typing import Any

import diffusers as d
import torch
from diffusers.configuration_utils import register_to_config
from diffusers.pipelines.consisid.pipeline_consisid import ConsisIDPipeline  # exported beside opencv alone
from diffusers.pipelines.deprecated.blip_diffusion.blip_image_processing import BlipImageProcessor
from diffusers.pipelines.deprecated.blip_diffusion.modeling_ctx_clip import ContextCLIPTextModel
from torch import Tensor, nn

from tests import tiny_networks as tiny
from tests import tiny_videos as videos
from tests.matrix.building import Arguments, Row, seeded, square_unet, variant
from tests.matrix.controls import controlnet
from tests.matrix.video import PICTURE, cogvideox, pictured
from tests.tiny_models import Call

QUERIES, WIDTH = 2, 16
FACE = {
    "id": 12,
    "vit": 10,
    "scales": 2,
}  # widths of a face's embedding and of its features, and their scales


class Subject(d.ModelMixin, d.ConfigMixin):
    """In place of BLIP-2's Q-Former, whose class wants transformers 4: tokens of a picture."""

    @register_to_config
    def __init__(self, num_query_tokens: int = QUERIES) -> None:
        super().__init__()
        self.tokens = nn.Linear(3, num_query_tokens * WIDTH)

    def forward(self, image_input: Tensor, text_input: list[str], return_dict: bool) -> Tensor:
        made = self.tokens(image_input.mean((-1, -2)).to(self.dtype)).view(1, QUERIES, WIDTH)
        return made.expand(len(text_input), -1, -1)


def blip(cls: type, **parts: Any) -> Any:
    return variant(
        "sd",
        cls,
        **{"unet": square_unet("sd", 4)} | parts,
        text_encoder=seeded(lambda: ContextCLIPTextModel(tiny.clip_config())),
        qformer=seeded(Subject),
        image_processor=BlipImageProcessor(size={"height": 32, "width": 32}),
    )


def blip_controlled() -> Any:
    unet = square_unet("sd", 4)
    return blip(d.BlipDiffusionControlNetPipeline, unet=unet, controlnet=controlnet(unet))


def subject(call: Call) -> Arguments:
    return {
        "prompt": ["on a table"] * call.batch,
        "reference_image": PICTURE,
        "source_subject_category": ["box"] * call.batch,
        "target_subject_category": ["red box"] * call.batch,
        "guidance_scale": 7.5 if call.cfg else 1.0,
        "neg_prompt": "blurry",
        "prompt_reps": 2,
        "height": 32,
        "width": 32,
        "output_type": "pt",
    }


def transformer() -> d.ConsisIDTransformer3DModel:
    return d.ConsisIDTransformer3DModel(
        in_channels=8,
        is_train_face=True,
        cross_attn_interval=1,
        cross_attn_dim_head=8,
        cross_attn_num_heads=2,
        LFE_id_dim=FACE["id"],
        LFE_vit_dim=FACE["vit"],
        LFE_depth=FACE["scales"],
        LFE_dim_head=8,
        LFE_num_heads=2,
        LFE_num_id_token=2,
        LFE_num_querie=3,
        LFE_output_dim=21,  # two thirds of the network's own width
        LFE_num_scale=FACE["scales"],
        **videos.COGVIDEOX,
    )


def face(call: Call) -> Arguments:
    """A face's embedding, and its features in several scales: one row, however many videos there are."""
    generator = torch.Generator().manual_seed(6)
    scales = [torch.randn(1, 6, FACE["vit"], generator=generator) for _ in range(FACE["scales"])]
    embedding = torch.randn(1, FACE["id"], generator=generator)
    return pictured(call) | {"id_cond": embedding, "id_vit_hidden": scales}


SUBJECT_ROWS: dict[str, Row] = {
    "BlipDiffusion": Row("beside", lambda: blip(d.BlipDiffusionPipeline), own=subject),
    "BlipDiffusionControlNet": Row("beside", blip_controlled, {"condtioning_image": PICTURE}, own=subject),
    "ConsisID": Row("video", lambda: cogvideox(ConsisIDPipeline, transformer), own=face),
}
