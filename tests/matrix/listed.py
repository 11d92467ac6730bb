"""Rows of denoisers that are called in ways of their own: Z-Image takes and returns lists."""

from __future__ import annotations

from typing import Any

import diffusers as d
import torch
from PIL import Image

from tests import tiny_listed as tiny
from tests.matrix.building import IMAGE, Arguments, Row, refused
from tests.tiny_models import NEGATIVE, PROMPT, Call

SIZE = (24, 40)  # 6×10 tokens, of which Z-Image makes 64
LONG = f"{PROMPT} on a table beside a window"  # of more than 32 tokens: padded to 64
PICTURE = IMAGE[..., :24, :].repeat(1, 1, 1, 2)[..., :40]
CONTROL = PICTURE.flip(3)
REFERENCE = Image.fromarray((255 * PICTURE[0]).byte().movedim(0, -1).numpy()).resize((64, 72))


def z_text(call: Call) -> Arguments:
    """It guides classifier-free from a scale of 0 on."""
    return {
        "prompt": [LONG] * call.batch,
        "negative_prompt": [NEGATIVE] * call.batch if call.cfg else None,
        "guidance_scale": 4.0 if call.cfg else 0.0,
        "num_images_per_prompt": call.images_per_prompt,
        "height": SIZE[0],
        "width": SIZE[1],
        "max_sequence_length": 60,
        "output_type": "latent",
    }


def z_pictured(call: Call) -> Arguments:
    return z_text(call) | {"image": torch.cat([PICTURE] * call.batch), "strength": 0.9}


def z_masked(call: Call) -> Arguments:
    """It wants a mask for each image that it makes of a prompt, and pictures for each prompt."""
    mask = torch.cat([WIDE_MASK] * call.batch * call.images_per_prompt)
    return z_text(call) | {"image": torch.cat([PICTURE] * call.batch), "mask_image": mask}


def z_embedded(call: Call, captions: int = 1) -> Arguments:
    """Omni replaces the prompts in the list that it is given, so that no list serves two runs."""
    generator = torch.Generator().manual_seed(7)

    def texts(tokens: int) -> list[list[torch.Tensor]]:
        return [
            [torch.randn(tokens + i, 16, generator=generator) for i in range(captions)]
            for _ in range(call.batch)
        ]

    given = z_text(call) | {"prompt_embeds": texts(35), "negative_prompt_embeds": texts(9)}
    return {name: value for name, value in given.items() if name not in ("prompt", "negative_prompt")}


def z_row(cls: type, controls: int = 0, own: Any = z_text, **extra: Any) -> Row:
    return Row("zimage", lambda: tiny.z_pipeline(cls, controls), extra, own=own)


def hidream(call: Call) -> Arguments:
    return z_text(call) | {"guidance_scale": 4.0 if call.cfg else 1.0}


def kandinsky3(call: Call) -> Arguments:
    """Sides count in 64 pixels for 8 latents."""
    given = hidream(call) | {"height": 192, "width": 256}
    return {name: value for name, value in given.items() if name != "max_sequence_length"}


def ernie(call: Call) -> Arguments:
    """Twice the pixels a side: its VAE's squares are packed in its latents."""
    given = hidream(call) | {"use_pe": False}
    return {name: value for name, value in given.items() if name != "max_sequence_length"}


def qwen21(call: Call) -> Arguments:
    """Sixteen pixels a side for a token."""
    given = ernie(call) | {"true_cfg_scale": 4.0 if call.cfg else 1.0, "height": 96, "width": 160}
    return {name: value for name, value in given.items() if name not in ("use_pe", "guidance_scale")}


def glm(call: Call) -> Arguments:
    """The tokens that its language model would make, one for each of the image's."""
    rows = call.batch
    tokens = torch.arange(60).remainder(32).expand(rows, -1)
    given = hidream(call) | {"prior_token_ids": tokens, "prompt": ['a sign that says "red box"'] * rows}
    return {name: value for name, value in given.items() if name != "negative_prompt"}


def omnigen(call: Call) -> Arguments:
    """It is always guided classifier-free, away from a negative prompt of its own."""
    return {
        "prompt": [PROMPT] * call.batch,
        "guidance_scale": 4.0 if call.cfg else 1.0,
        "num_images_per_prompt": call.images_per_prompt,
        "height": 96,
        "width": 160,
        "output_type": "latent",
    }


def omnigen_pictured(call: Call) -> Arguments:
    pictures = {"input_images": [[REFERENCE]] * call.batch, "max_input_image_size": 64}
    return omnigen(call) | pictures | {"prompt": [f"<img><|image_1|></img> {PROMPT}"] * call.batch}


def controlled(call: Call) -> Arguments:
    given = hidream(call) | {"image": torch.cat([PICTURE] * call.batch)}
    return {
        name: value for name, value in given.items() if name not in ("max_sequence_length", "height", "width")
    }


def k3_pictured(call: Call) -> Arguments:
    """A picture of 24×32 latents."""
    picture = IMAGE.repeat(1, 1, 2, 2)[:, :, :48]
    given = kandinsky3(call) | {"image": torch.cat([picture] * call.batch), "strength": 0.9}
    return {name: value for name, value in given.items() if name not in ("height", "width")}


WIDE_MASK = torch.zeros(1, 1, *SIZE)
WIDE_MASK[..., :20] = 1
LISTED_ROWS: dict[str, Row] = {
    "ZImage": z_row(d.ZImagePipeline),
    "ZImageImg2Img": z_row(d.ZImageImg2ImgPipeline, own=z_pictured),
    "ZImageInpaint": z_row(d.ZImageInpaintPipeline, own=z_pictured, mask_image=WIDE_MASK),
    "ZImageControlNet": z_row(d.ZImageControlNetPipeline, 4, control_image=PICTURE),
    "ZImageControlNetInpaint": z_row(d.ZImageControlNetInpaintPipeline, 9, z_masked, control_image=CONTROL),
    "ZImageOmni": Row("zimage", tiny.z_omni, own=z_embedded),
    "ZImageOmni, reference image": Row(
        "zimage", tiny.z_omni, {"image": [REFERENCE]}, own=lambda call: z_embedded(call, 3)
    ),
    "ErnieImage": Row("ernie", tiny.ernie_pipeline, own=ernie),
    "NucleusMoEImage": Row("nucleus", tiny.nucleus_pipeline, {"max_sequence_length": 64}, own=hidream),
    "QwenImage21": Row("qwen21", tiny.qwen21_pipeline, own=qwen21),
    "QwenImage21, without its cache": Row(
        "qwen21", tiny.qwen21_pipeline, {"use_kv_cache": False}, own=qwen21
    ),
    "GlmImage": Row("glm", tiny.glm_pipeline, own=glm),
    "StableDiffusionControlNetXS": Row("xs", tiny.xs_pipeline, own=controlled),
    "StableDiffusionXLControlNetXS": Row("xs", lambda: tiny.xs_pipeline(xl=True), own=controlled),
    "DreamLite": refused(d.DreamLiteUNetModel, "a picture beside the latents, on the same grid"),
    "DreamLiteMobile": refused(d.DreamLiteUNetModel, "a picture beside the latents, on the same grid"),
    "Ideogram4": refused(d.Ideogram4Transformer2DModel, "by a second network without the prompt"),
    "OmniGen": Row("omnigen", tiny.omnigen_pipeline, own=omnigen),
    "OmniGen, reference image": Row("omnigen", tiny.omnigen_pipeline, own=omnigen_pictured),
    "HiDreamImage": Row("hidream", tiny.hidream_pipeline, own=hidream),
    "Kandinsky3": Row("kandinsky3", tiny.kandinsky3_pipeline, own=kandinsky3),
    "Kandinsky3Img2Img": Row(
        "kandinsky3", lambda: tiny.kandinsky3_pipeline(d.Kandinsky3Img2ImgPipeline), own=k3_pictured
    ),
}
