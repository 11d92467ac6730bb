"""Tiny pipelines whose captions are framed as the real ones are: instructions, chat templates, padding.

A character is a token. Encoders have as many layers as their pipelines ask for by default.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import diffusers as d
from transformers import (
    Mistral3Config,
    Mistral3ForConditionalGeneration,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from tests import tiny_alone as alone
from tests import tiny_dits as dits
from tests import tiny_listed as listed
from tests import tiny_twins as twins
from tests.matrix.building import seeded
from tests.tiny_models import pipeline

CHATML = (
    "{% for turn in messages %}<|im_start|>{{ turn.role }}\n{{ turn.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    "{% if enable_thinking is defined and not enable_thinking %}<think></think>{% endif %}"
)
MISTRAL = "<s>{% for turn in messages %}[{{ turn.role }}]{{ turn.content[0].text }}{% endfor %}"
Arguments = Mapping[str, Any]


@dataclass(frozen=True)
class Reader:
    """A pipeline that reads captions, and what its call takes beside a prompt and a size.

    `size`: in pixels, of `grid` tokens. `time`: what its denoiser's timestep is in its scheduler's.
    `first`: the first layer in which text and image share a map. `scale`: of classifier-free guidance where
    there is none; None where the call has no such argument, or gives its number to the denoiser. `side`:
    latent pixels a side that the pipeline packs into a token, None where its denoiser is given latents.
    """

    build: Callable[[], Any]
    extra: Arguments = field(default_factory=dict)
    grid: tuple[int, int] = (6, 10)
    size: tuple[int, int] = (24, 40)
    time: Callable[[float], float] = lambda time: 1000 * time
    first: str = "transformer_blocks.0.attn"
    scale: float | None = 1.0
    side: int | None = 2


def as_it_is(time: float) -> float:
    return time


def shifted(pipe: Any) -> Any:
    """With an autoencoder whose latents are decoded with a shift, as theirs are."""
    pipe.vae.register_to_config(shift_factor=0.1)
    return pipe


def padded(pipe: Any, side: str) -> Any:
    """With its tokenizer's padding on that side."""
    pipe.tokenizer.padding_side = side
    return pipe


def qwen(side: str = "right") -> Any:
    pipe = pipeline("qwen")
    plain = d.QwenImagePipeline(**pipe.components)  # with its own template
    plain.set_progress_bar_config(disable=True)
    return padded(plain, side)


def deepened(pipe: Any) -> Any:
    """FLUX 2's, with an encoder of as many layers as its pipeline asks for by default."""
    klein = not hasattr(pipe, "system_message")
    language = dits.LANGUAGE | {"num_hidden_layers": 27 if klein else 30}

    def encoder() -> Any:
        if klein:
            return Qwen3ForCausalLM(Qwen3Config(**language, head_dim=8))
        vision = dits.VISION | {"model_type": "pixtral", "image_size": 28, "patch_size": 14}
        text = language | {"model_type": "mistral"}
        return Mistral3ForConditionalGeneration(Mistral3Config(text_config=text, vision_config=vision))

    pipe.text_encoder, pipe.transformer = seeded(encoder), seeded(lambda: dits.flux2(48))
    return pipe


def flux2(side: str = "right") -> Any:
    pipe = deepened(pipeline("flux2"))
    pipe.tokenizer.chat_template = MISTRAL
    return padded(pipe, side)


def klein() -> Any:
    pipe = deepened(pipeline("flux2-klein"))
    pipe.tokenizer.chat_template = CHATML
    return pipe


def z_image(side: str = "right") -> Any:
    pipe = listed.z_pipeline()
    pipe.tokenizer.chat_template = CHATML
    return padded(pipe, side)


def hunyuan_image() -> Any:
    def build() -> Any:
        pipe = alone.hunyuan_image_pipeline()
        return d.HunyuanImagePipeline(**pipe.components)

    return twins.made(build)


def lumina2() -> Any:
    pipe = shifted(pipeline("lumina2"))
    pipe.system_prompt = "You draw what you are told."
    return pipe


def chroma() -> Any:
    return shifted(twins.made(lambda: d.ChromaPipeline(**twins.chroma_parts())))


def z_reader(side: str) -> Reader:
    return Reader(
        lambda: z_image(side),
        {"guidance_scale": 0.0},
        scale=0.0,
        side=None,
        time=lambda time: 1000 * (1 - time),
        first="layers.0.attention",
    )


def ovis() -> Any:
    def build() -> Any:
        return d.OvisImagePipeline(**twins.ovis_pipeline().components)

    pipe = shifted(twins.made(build))
    pipe.tokenizer.chat_template = CHATML
    return pipe


def longcat() -> Any:
    """With its own template, which frames a prompt in the middle of its padding."""
    pipe = twins.made(lambda: d.LongCatImagePipeline(**twins.longcat_pipeline().components))
    pipe.tokenizer_max_length = 40
    return shifted(pipe)


def krea2() -> Any:
    def build() -> Any:
        pipe = alone.krea2_pipeline()
        layers = pipe.text_encoder_select_layers
        return d.Krea2Pipeline(**pipe.components, text_encoder_select_layers=layers)

    return twins.made(build)


def fibo() -> Any:
    return twins.made(lambda: d.BriaFiboPipeline(**alone.fibo_parts()))


SHORT = {"max_sequence_length": 77}  # the tiny T5's
READERS: dict[str, Reader] = {
    "Qwen-Image": Reader(qwen),
    "Qwen-Image, padded left": Reader(lambda: qwen("left")),
    "FLUX.2": Reader(flux2, scale=None),
    "FLUX.2, padded left": Reader(lambda: flux2("left"), scale=None),
    "FLUX.2 Klein": Reader(klein),
    "Z-Image": z_reader("right"),
    "Z-Image, padded left": z_reader("left"),
    "Chroma": Reader(chroma, SHORT),
    "HunyuanImage 2.1": Reader(hunyuan_image, time=as_it_is, scale=None, side=None),
    "HiDream": Reader(
        listed.hidream_pipeline,
        {"guidance_scale": 1.0},
        side=None,
        time=as_it_is,
        first="double_stream_blocks.0.block.attn1",
    ),
    "AuraFlow": Reader(
        lambda: pipeline("auraflow"), SHORT, side=None, first="joint_transformer_blocks.0.attn"
    ),
    "CogView 4": Reader(
        lambda: twins.made(lambda: d.CogView4Pipeline(**alone.cogview4_parts())),
        grid=(12, 20),
        side=None,
        size=(48, 80),
        time=as_it_is,
        first="transformer_blocks.0.attn1",
    ),
    "Lumina 2": Reader(
        lumina2, side=None, size=(96, 160), time=lambda time: 1000 * (1 - time), first="layers.0.attn"
    ),
    "Ovis-Image": Reader(ovis),
    "LongCat-Image": Reader(longcat, {"enable_prompt_rewrite": False}),
    "Krea 2": Reader(krea2, scale=0.0),
    "FIBO": Reader(fibo, {"guidance_scale": 1.0}, side=1, size=(96, 160), time=as_it_is),
    "Bria 3.2": Reader(lambda: twins.made(alone.bria_pipeline), SHORT, time=as_it_is),
}
