"""Tiny encoders of pictures, and what pipelines that start from a picture's embedding hold beside them."""

from typing import Any

import diffusers as d
from transformers import CLIPImageProcessor, CLIPVisionConfig, CLIPVisionModelWithProjection

SIDE = 32


def picture_encoder(projection: int = 16, hidden: int = 16) -> CLIPVisionModelWithProjection:
    config = CLIPVisionConfig(
        hidden_size=hidden,
        intermediate_size=16,
        projection_dim=projection,
        num_hidden_layers=2,
        num_attention_heads=2,
        image_size=SIDE,
        patch_size=8,
    )
    return CLIPVisionModelWithProjection(config)


def picture_processor() -> CLIPImageProcessor:
    return CLIPImageProcessor(
        crop_size={"height": SIDE, "width": SIDE}, size={"shortest_edge": SIDE}, do_resize=True
    )


def prior(width: int = 16) -> d.PriorTransformer:
    return d.PriorTransformer(
        num_attention_heads=2, attention_head_dim=8, embedding_dim=width, num_layers=1, num_embeddings=77
    )


def prior_scheduler() -> Any:
    return d.UnCLIPScheduler(
        variance_type="fixed_small_log",
        prediction_type="sample",
        num_train_timesteps=1000,
        clip_sample_range=5.0,
    )
