"""UNets: Stable Diffusion 1, 2 and XL, DDPM, DeepFloyd IF, and all that is built on them."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from torch import nn

from tokenrank_guidance.components import config_of, denoiser_of
from tokenrank_guidance.families.calling import Calling, Habits
from tokenrank_guidance.families.family import Family
from tokenrank_guidance.families.picture import Inputs, Picture, PicturePass
from tokenrank_guidance.families.refused import BESIDE
from tokenrank_guidance.families.tokens import ForwardPass, Tokens, TokenSpans, image_only, processed
from tokenrank_guidance.families.words import Words, one_or_two


def _auto(names: Sequence[str]) -> str:
    """Self-Attention Guidance's layer, the middle's first; without one, the deepest."""
    middle = [name for name in names if name.startswith("mid_block.")]
    down = [name for name in names if name.startswith("down_blocks.")]
    return [*middle, *reversed(down), *names][0]


def _source(model: nn.Module, layer: str) -> str:
    # The enclosing Transformer2DModel, or the layer itself in UNet2DModel: both are given (B, C, h, w). Read
    # there, because the way down rounds odd sizes up or down as `downsample_padding` has it.
    return layer.partition(".transformer_blocks.")[0]


def _spans(call: ForwardPass) -> TokenSpans:
    height, width = call.inputs["hidden_states"].shape[-2:]
    spans = image_only((height, width))
    if getattr(call.source, "added_kv_proj_dim", None) is None:
        return spans
    prompt = call.inputs.get("encoder_hidden_states")
    return replace(spans, prompt_keys=spans.total if prompt is None else prompt.shape[1])


def takes_aesthetics(pipe: Any) -> bool:
    """Whether the UNet takes an aesthetic score, as SDXL's refiner does."""
    return bool(getattr(pipe, "config", {}).get("requires_aesthetics_score", False))


def _inputs(call: PicturePass) -> Inputs:
    pipe = call.pipe
    inputs: Inputs = {"sample": call.with_mask(), "timestep": call.times()}
    if config_of(pipe).get("addition_embed_type") == "text_time":
        return inputs | _inputs_xl(call)
    text = pipe.encode_prompt(call.caption, call.device, 1, False)[0]
    return inputs | {"encoder_hidden_states": text}


def _inputs_xl(call: PicturePass) -> Inputs:
    """SDXL: its own unconditional context (zeros, in the published model), no crop, the size worked at.

    Its refiner's aesthetic score is the one that the pipeline has for text, or for none.
    """
    pipe = call.pipe
    encoded = pipe.encode_prompt(call.caption, device=call.device, do_classifier_free_guidance=True)
    text, pooled = (encoded[0], encoded[2]) if call.caption else (encoded[1], encoded[3])
    last: tuple[float, ...] = call.size
    if takes_aesthetics(pipe):
        name = "aesthetic_score" if call.caption else "negative_aesthetic_score"
        last = (inspect.signature(pipe.__call__).parameters[name].default,)
    micro = call.numbers(*call.size, 0, 0, *last)
    return {
        "encoder_hidden_states": text,
        "added_cond_kwargs": {"text_embeds": pooled, "time_ids": micro},
    }


def _inputs_without_text(call: PicturePass) -> Inputs:
    return {"sample": call.latents, "timestep": call.times()}


def _spare(pipe: Any) -> frozenset[str]:
    return frozenset({"text_encoder", "tokenizer"} if takes_aesthetics(pipe) else ())


def _unusual(pipe: Any) -> str:
    """Embeddings that a picture alone does not tell."""
    config = config_of(pipe)
    if config.get("class_embed_type") is not None or config.get("num_class_embeds") is not None:
        return "its UNet takes class embeddings, of which no neutral one is known here"
    kinds = (config.get("addition_embed_type"), config.get("encoder_hid_dim_type"))
    other = [kind for kind in kinds if kind not in (None, "text_time", "text_proj", "ip_image_proj")]
    if other:
        return f"its UNet takes {other[0]!r} embeddings, which are not supported"
    return _unusual_xl(pipe) if kinds[0] == "text_time" else ""


def _unusual_xl(pipe: Any) -> str:
    """SDXL's UNet takes sizes beside the pooled text, its refiner's an aesthetic score for one of them."""
    pooled = getattr(getattr(pipe, "text_encoder_2", None), "config", None)
    if pooled is None:
        return ""
    unet: Any = denoiser_of(pipe)
    taken = unet.add_embedding.linear_1.in_features
    made = pooled.projection_dim + (5 if takes_aesthetics(pipe) else 6) * unet.config.addition_time_embed_dim
    if taken == made:
        return ""
    return f"its UNet takes {taken} numbers of sizes and pooled text, the pipeline makes {made}"


PROCESSORS = "it works by attention processors of its own, which guidance neither sees into nor may replace"
PRECONDITIONED = (
    "what its scheduler is given is no output of its denoiser, but that scaled and added to the latents"
)
FIRST_FRAME = "its frames attend to the first one's keys, so that their maps are no chain"
IMAGES = Habits(sample="image")
STAGES = Habits(sample="intermediate_images")
MARIGOLD = Habits(sample="batch_pred_latent", noisy_last=True)
INPAINTING = Habits(mask="latents")
TOKENS = Tokens(_spans, processed("down_blocks", "mid_block", "up_blocks"), _auto, _source)
CALLING = Calling("sample")

UNET = Family(
    models=("UNet2DConditionModel",),
    tokens=TOKENS,
    calling=CALLING,
    picture=Picture(_inputs, spare=_spare, refused=_unusual),
    words=Words(one_or_two),
    pipelines={
        "IFPipeline": STAGES,
        "IFImg2ImgPipeline": STAGES,
        "IFInpaintingPipeline": STAGES,
        "IFSuperResolutionPipeline": STAGES,
        "IFImg2ImgSuperResolutionPipeline": STAGES,
        "IFInpaintingSuperResolutionPipeline": STAGES,
        "MarigoldDepthPipeline": MARIGOLD,
        "MarigoldNormalsPipeline": MARIGOLD,
        "MarigoldIntrinsicsPipeline": MARIGOLD,
        "StableDiffusionInpaintPipeline": INPAINTING,
        "StableDiffusionXLInpaintPipeline": INPAINTING,
        "StableDiffusionControlNetInpaintPipeline": INPAINTING,
        "StableDiffusionXLControlNetInpaintPipeline": INPAINTING,
        "StableDiffusionXLControlNetUnionInpaintPipeline": INPAINTING,
        "StableDiffusionPAGInpaintPipeline": INPAINTING,
        "StableDiffusionXLPAGInpaintPipeline": INPAINTING,
        "StableDiffusionControlNetPAGInpaintPipeline": INPAINTING,
        "StableDiffusionPanoramaPipeline": Habits(sample="latents_for_view", interleaved=True, copies=True),
        "StableDiffusionInstructPix2PixPipeline": Habits(unconditional=2),
        "StableDiffusionXLInstructPix2PixPipeline": Habits(unconditional=2),
        "SemanticStableDiffusionPipeline": Habits(unconditional=0),
        "StableDiffusionPipelineSafe": Habits(unconditional=0),
        "StableDiffusionLatentUpscalePipeline": Habits(refused=PRECONDITIONED),
        "StableDiffusionSAGPipeline": Habits(refused="it is Self-Attention Guidance already"),
        "StableDiffusionAttendAndExcitePipeline": Habits(refused=PROCESSORS),
        "StableDiffusionPix2PixZeroPipeline": Habits(refused=PROCESSORS),
        "LEditsPPPipelineStableDiffusion": Habits(refused=PROCESSORS),
        "LEditsPPPipelineStableDiffusionXL": Habits(refused=PROCESSORS),
        "TextToVideoZeroPipeline": Habits(refused=FIRST_FRAME),
        "TextToVideoZeroSDXLPipeline": Habits(refused=FIRST_FRAME),
        "DreamLitePipeline": Habits(refused=BESIDE),
        "DreamLiteMobilePipeline": Habits(refused=BESIDE),
    },
)
UNCONDITIONAL = Family(
    models=("UNet2DModel",),
    tokens=TOKENS,
    calling=CALLING,
    picture=Picture(_inputs_without_text, refused=_unusual),
    pipelines={
        "DDPMPipeline": IMAGES,
        "DDIMPipeline": IMAGES,
        "PNDMPipeline": IMAGES,
        "RePaintPipeline": IMAGES,
        "ConsistencyModelPipeline": Habits(sample="sample"),
    },
)
FAMILIES = (UNET, UNCONDITIONAL)
