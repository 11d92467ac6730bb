"""Rows of Kandinsky 2.1, 2.2 and 5 beside the first ones."""

from __future__ import annotations

import inspect
from typing import Any

import diffusers as d
from diffusers.pipelines.kandinsky.text_encoder import MCLIPConfig, MultilingualCLIP

from tests import tiny_clips as clips
from tests import tiny_networks as tiny
from tests.matrix.beside import text
from tests.matrix.building import IMAGE, MASK, Arguments, Row, quiet, seeded, variant
from tests.matrix.later import double, kandinsky_inpaint
from tests.tiny_dits import kandinsky_unet
from tests.tiny_models import ARGUMENTS, Call, pipeline

BESIDE = "beside"
START = {"image": 2 * double(IMAGE) - 1, "strength": 0.9}
PAINT = {"image": 2 * double(IMAGE) - 1, "mask_image": double(MASK)}
HINT = {"hint": IMAGE.repeat_interleave(8, 2).repeat_interleave(8, 3)}


def changed(unet: Any, **options: Any) -> Any:
    config = dict(unet.config) | options
    config.pop("_use_default_values", None)
    return seeded(lambda: d.UNet2DConditionModel.from_config(config))


def second(cls: type, unet: Any = None) -> Any:
    """Kandinsky 2.2, with DDIM."""
    unet = unet or seeded(kandinsky_unet)
    return variant("kandinsky", cls, unet=unet)


def hinted(cls: type) -> Any:
    """A picture of depths beside the embedding, in four channels beside the latents."""
    unet = kandinsky_unet()
    return second(cls, changed(unet, addition_embed_type="image_hint", in_channels=8))


def multilingual() -> Any:
    config = MCLIPConfig(
        transformerDimSize=16,
        imageDimSize=16,
        hidden_size=16,
        intermediate_size=16,
        num_attention_heads=2,
        num_hidden_layers=1,
        vocab_size=len(tiny.VOCABULARY),
    )
    return seeded(lambda: MultilingualCLIP(config))


def first_unet(channels: int = 4) -> Any:
    """Kandinsky 2.1's takes the text's embedding, too."""
    options = {"addition_embed_type": "text_image", "encoder_hid_dim_type": "text_image_proj"}
    return changed(
        kandinsky_unet(), in_channels=channels, cross_attention_dim=16, encoder_hid_dim=16, **options
    )


def parts(cls: type, inpaint: bool) -> dict[str, Any]:
    """Of a pipeline of 2.1 or 2.2, and those of the prior that comes before it in a combined one."""
    common = dict(pipeline("kandinsky").components)
    first = "V22" not in cls.__name__
    channels = 9 if inpaint else 4
    unet = first_unet(channels) if first else kandinsky_inpaint() if inpaint else seeded(kandinsky_unet)
    scheduler = d.DDIMScheduler(beta_schedule="linear", beta_end=0.012, clip_sample=False, steps_offset=1)
    return common | {
        "unet": unet,
        "scheduler": scheduler if first else common["scheduler"],
        "text_encoder": multilingual(),
        "tokenizer": tiny.tokenizer(77),
        "prior_prior": seeded(clips.prior),
        "prior_image_encoder": seeded(clips.picture_encoder),
        "prior_text_encoder": tiny.clip_projected().eval(),
        "prior_tokenizer": tiny.tokenizer(77),
        "prior_scheduler": clips.prior_scheduler(),
        "prior_image_processor": clips.picture_processor(),
    }


def whole(cls: type, inpaint: bool = False) -> Any:
    taken = inspect.signature(cls.__init__).parameters
    return quiet(cls(**{name: part for name, part in parts(cls, inpaint).items() if name in taken}))


def prompted(call: Call) -> Arguments:
    """2.1: prompts beside the embeddings."""
    given = ARGUMENTS["kandinsky"](call)
    return given | {name: text(call)[name] for name in ("prompt", "negative_prompt")}


def combined(call: Call) -> Arguments:
    return text(call) | {"height": 64, "width": 64, "prior_num_inference_steps": 2}


SEVERAL = ("two prompts, two images each",)  # with a picture, they fail at it without guidance
HALF = ("bf16",)  # minutes of convolutions over the hint, on a CPU
SMALL = {"output_type": "pt"}
KANDINSKY_ROWS: dict[str, Row] = {
    "Kandinsky": Row(BESIDE, lambda: whole(d.KandinskyPipeline), SMALL, own=prompted),
    "KandinskyImg2Img": Row(BESIDE, lambda: whole(d.KandinskyImg2ImgPipeline), SMALL | START, own=prompted),
    "KandinskyInpaint": Row(
        BESIDE, lambda: whole(d.KandinskyInpaintPipeline, True), SMALL | PAINT, own=prompted
    ),
    "KandinskyCombined": Row(BESIDE, lambda: whole(d.KandinskyCombinedPipeline), SMALL, own=combined),
    "KandinskyImg2ImgCombined": Row(
        BESIDE,
        lambda: whole(d.KandinskyImg2ImgCombinedPipeline),
        SMALL | START,
        own=combined,
        without=SEVERAL,
    ),
    "KandinskyInpaintCombined": Row(
        BESIDE,
        lambda: whole(d.KandinskyInpaintCombinedPipeline, True),
        SMALL | PAINT,
        own=combined,
        without=SEVERAL,
    ),
    "KandinskyV22Combined": Row(BESIDE, lambda: whole(d.KandinskyV22CombinedPipeline), own=combined),
    "KandinskyV22Img2ImgCombined": Row(
        BESIDE, lambda: whole(d.KandinskyV22Img2ImgCombinedPipeline), START, own=combined, without=SEVERAL
    ),
    "KandinskyV22InpaintCombined": Row(
        BESIDE,
        lambda: whole(d.KandinskyV22InpaintCombinedPipeline, True),
        PAINT,
        own=combined,
        without=SEVERAL,
    ),
    "KandinskyV22Img2Img": Row(
        BESIDE, lambda: second(d.KandinskyV22Img2ImgPipeline), START, own=ARGUMENTS["kandinsky"]
    ),
    "KandinskyV22Controlnet": Row(
        BESIDE,
        lambda: hinted(d.KandinskyV22ControlnetPipeline),
        SMALL | HINT,
        own=ARGUMENTS["kandinsky"],
        without=HALF,
    ),
    "KandinskyV22ControlnetImg2Img": Row(
        BESIDE,
        lambda: hinted(d.KandinskyV22ControlnetImg2ImgPipeline),
        SMALL | START | HINT,
        own=ARGUMENTS["kandinsky"],
        without=HALF,
    ),
}
