"""Tiny pipelines that are read while they draw, with captions as the real ones have them.

A character is a token.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import diffusers as d
from diffusers.pipelines.hunyuan_video.pipeline_hunyuan_video import DEFAULT_PROMPT_TEMPLATE
from transformers import LlamaConfig, LlamaModel, Qwen3Config, Qwen3Model

from tests import tiny_dits as dits
from tests import tiny_listed as listed
from tests import tiny_networks as networks
from tests import tiny_videos as videos
from tests.matrix.building import seeded
from tests.matrix.video import PICTURE, built

TURNS = (
    "{% for turn in messages %}[{{ turn.role }}]"
    "{{ turn.content if turn.content is string else turn.content[0].text }}{% endfor %}[draw]"
)


@dataclass(frozen=True)
class DrawnReader:
    """A pipeline, and what its call takes beside a prompt, a size and a number of frames.

    `given`: pictures that it draws from. `frames` of `size` pixels, of `grid` tokens; None of a picture, and
    where one tells it. `first`: the first layer in which text and
    image share a map. `least`: of steps. `scales`: how to ask for classifier-free guidance, and for none;
    empty where its call has no number of it.
    """

    build: Callable[[], Any]
    extra: Mapping[str, Any] = field(default_factory=dict)
    given: Mapping[str, Any] = field(default_factory=dict)
    grid: tuple[int, ...] = (3, 8, 6)
    size: tuple[int, int] | None = (32, 24)
    frames: int | None = 5
    first: str = "transformer_blocks.0.attn1"
    least: int = 1
    scales: Sequence[Mapping[str, Any]] = ({}, {"cfg": 1.0})


def cogvideox(cls: type = d.CogVideoXPipeline, channels: int = 4) -> Any:
    """Its tables of positions hold as many words as it reads."""
    text = {"text_embed_dim": 32, "max_text_seq_length": 226}
    size = {"sample_height": 16, "sample_width": 12}
    return built(
        cls,
        videos.cogvideox_vae,
        lambda: videos.cogvideox(channels, **text, **size),
        scheduler=d.CogVideoXDDIMScheduler(),
        tokenizer=networks.tokenizer(226),
        text_encoder=seeded(networks.t5),
    )


def chatting(tokenizer: Any) -> Any:
    tokenizer.chat_template = TURNS
    return tokenizer


def language(layers: int) -> Callable[[], Any]:
    config = dits.LANGUAGE | {"num_hidden_layers": layers}
    return lambda: Qwen3Model(Qwen3Config(**config, head_dim=8))


def hunyuan_video() -> Any:
    """The rest of its instructions is one token, so that as many are cut off as there."""
    tokenizer = networks.tokenizer(351)
    before = DEFAULT_PROMPT_TEMPLATE["template"].partition("{}")[0]
    tokenizer.add_tokens([before[96:]])
    config = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2}
    pipe = built(
        d.HunyuanVideoPipeline,
        videos.hunyuan_video_vae,
        videos.hunyuan_video,
        tokenizer=tokenizer,
        text_encoder=seeded(lambda: LlamaModel(LlamaConfig(vocab_size=len(tokenizer), **config))),
        tokenizer_2=networks.tokenizer(77),
        text_encoder_2=seeded(networks.clip),
    )
    pipe.vae_scale_factor_temporal = 2  # as its decoder has it
    return pipe


def hunyuan_video_15(cls: type = d.HunyuanVideo15Pipeline, **parts: Any) -> Any:
    pipe = built(
        cls,
        videos.hunyuan_video_15_vae,
        lambda: videos.hunyuan_video_15(32),
        tokenizer=chatting(networks.tokenizer(77)),
        text_encoder=seeded(language(3)),
        tokenizer_2=networks.tokenizer(77),
        text_encoder_2=seeded(networks.t5),
        guider=d.ClassifierFreeGuidance(5.0),
        **parts,
    )
    pipe.vision_num_semantic_tokens = 4
    pipe.system_message, pipe.prompt_template_encode_start_idx = "You draw.", 6
    pipe.tokenizer_max_length, pipe.tokenizer_2_max_length = 70, 30
    return pipe


def mochi() -> Any:
    """Its statistics would have to be of twelve channels."""
    pipe = built(
        d.MochiPipeline,
        videos.mochi_vae,
        lambda: videos.mochi(32),
        tokenizer=networks.tokenizer(256),
        text_encoder=seeded(networks.t5),
        scheduler=d.FlowMatchEulerDiscreteScheduler(invert_sigmas=True),
    )
    pipe.vae.register_to_config(latents_mean=None, latents_std=None)
    return pipe


def motif() -> Any:
    return built(
        d.MotifVideoPipeline,
        videos.wan_vae,
        lambda: videos.motif(32),
        tokenizer=networks.tokenizer(77),
        text_encoder=seeded(networks.t5),
        guider=d.ClassifierFreeGuidance(5.0),
    )


def easyanimate() -> Any:
    return built(
        d.EasyAnimatePipeline,
        videos.easyanimate_vae,
        videos.easyanimate,
        tokenizer=chatting(networks.tokenizer(256)),
        text_encoder=seeded(language(2)),
    )


def pictured_15() -> Any:
    parts = {"image_encoder": seeded(videos.siglip), "feature_extractor": videos.siglip_processor()}
    return hunyuan_video_15(d.HunyuanVideo15ImageToVideoPipeline, **parts)


VIDEO_READERS: dict[str, DrawnReader] = {
    "CogVideoX": DrawnReader(cogvideox),
    "CogVideoX, from a picture": DrawnReader(
        lambda: cogvideox(d.CogVideoXImageToVideoPipeline, 8), given={"image": PICTURE}
    ),
    "HunyuanVideo": DrawnReader(
        hunyuan_video,
        grid=(3, 8, 4),
        size=(32, 16),
        first="transformer_blocks.0.attn",
        scales=({"cfg": 3.0}, {}),
    ),
    "HunyuanVideo 1.5": DrawnReader(
        hunyuan_video_15, size=(16, 12), first="transformer_blocks.0.attn", scales=()
    ),
    "HunyuanVideo 1.5, from a picture": DrawnReader(
        pictured_15,
        given={"image": PICTURE},
        grid=(3, 16, 16),
        size=None,
        first="transformer_blocks.0.attn",
        scales=(),
    ),
    "Mochi": DrawnReader(mochi, grid=(3, 4, 3), size=(64, 48), frames=13, least=2),
    "Motif-Video": DrawnReader(motif, first="transformer_blocks.0.attn", scales=()),
    "EasyAnimate": DrawnReader(
        easyanimate, grid=(3, 4, 3), size=(64, 48), frames=9, extra={"negative_prompt": [""]}
    ),
}
DRAWN_READERS = VIDEO_READERS | {
    "ERNIE-Image": DrawnReader(
        listed.ernie_pipeline, grid=(6, 10), size=(24, 40), frames=None, first="layers.0.self_attention"
    ),
    "OmniGen": DrawnReader(
        listed.omnigen_pipeline, grid=(6, 10), size=(96, 160), frames=None, first="layers.0.self_attn"
    ),
}
