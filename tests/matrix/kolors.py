"""Rows of Kolors, which diffusers has where sentencepiece is installed: an SDXL UNet that reads ChatGLM."""

from __future__ import annotations

from typing import Any

import diffusers as d
import torch
from diffusers.utils import is_sentencepiece_available
from torch import nn

from tests import tiny_networks as tiny
from tests.matrix.beside import sized
from tests.matrix.building import IMAGE, Arguments, Row, quiet, seeded, square_unet
from tests.tiny_models import Call, ddim

WIDTH = 32


class Positions:
    """The tiny tokenizer, which tells positions as ChatGLM's does."""

    def __call__(self, text: Any, **options: Any) -> Any:
        found = tiny.tokenizer(77)(text, **options)
        found["position_ids"] = torch.arange(found["input_ids"].shape[1]).expand_as(found["input_ids"])
        return found


def reader() -> Any:
    from diffusers.pipelines.kolors.text_encoder import ChatGLMConfig, ChatGLMModel

    config = ChatGLMConfig(
        num_layers=2,
        padded_vocab_size=len(tiny.VOCABULARY),
        hidden_size=WIDTH,
        ffn_hidden_size=16,
        kv_channels=8,
        num_attention_heads=4,
        seq_length=256,
        add_qkv_bias=True,
        multi_query_attention=True,
        multi_query_group_num=2,
        original_rope=True,
        use_cache=False,
    )

    def started() -> nn.Module:
        model = ChatGLMModel(config)  # with empty weights
        for parameter in model.parameters():
            nn.init.normal_(parameter, std=0.2)
        return model

    return seeded(started)


def kolors(cls: type) -> Any:
    config = dict(square_unet("sdxl", 4).config) | {"projection_class_embeddings_input_dim": WIDTH + 6 * 8}
    config.pop("_use_default_values", None)
    unet = seeded(lambda: d.UNet2DConditionModel.from_config(config))
    return quiet(cls(seeded(tiny.vae), reader(), Positions(), unet, ddim()))


def short(call: Call) -> Arguments:
    return sized(call) | {"max_sequence_length": 24}


KOLORS_ROWS: dict[str, Row] = {}
if is_sentencepiece_available():
    KOLORS_ROWS = {
        "Kolors": Row("beside", lambda: kolors(d.KolorsPipeline), own=short),
        "KolorsImg2Img": Row(
            "beside", lambda: kolors(d.KolorsImg2ImgPipeline), {"image": IMAGE, "strength": 0.9}, own=short
        ),
        "KolorsPAG": Row(
            "beside",
            lambda: kolors(d.KolorsPAGPipeline),
            {"pag_scale": 2.0},
            own=short,
            leaves=("processors",),
        ),
    }
