"""Tiny stages of Stable Cascade and Würstchen: priors draw small latents, and decoders enlarge them."""

from typing import Any

import diffusers as d
from diffusers.models import StableCascadeUNet
from diffusers.models.attention_processor import AttnProcessor2_0
from diffusers.pipelines.deprecated.wuerstchen import PaellaVQModel, WuerstchenDiffNeXt, WuerstchenPrior

from tests import tiny_networks as tiny
from tests.matrix.building import quiet, seeded

WIDTH = 16
SCALE = 4  # of the decoder's latents to the prior's; published models have 10.67
ATTENDING = ("SDCascadeResBlock", "SDCascadeTimestepBlock", "SDCascadeAttnBlock")


def cascade_prior() -> Any:
    """Two levels of one size, as published: `switch_level` is false."""
    return StableCascadeUNet(
        in_channels=WIDTH,
        out_channels=WIDTH,
        timestep_ratio_embedding_dim=8,
        conditioning_dim=WIDTH,
        block_out_channels=(WIDTH, WIDTH),
        num_attention_heads=(2, 2),
        down_num_layers_per_block=(1, 1),
        up_num_layers_per_block=(1, 1),
        block_types_per_layer=(ATTENDING, ATTENDING),
        clip_text_in_channels=WIDTH,
        clip_text_pooled_in_channels=WIDTH,
        clip_image_in_channels=WIDTH,
        switch_level=(False,),
        dropout=0.0,
    )


def cascade_decoder() -> Any:
    """Its last level alone attends; the way up runs its layers twice."""
    return StableCascadeUNet(
        in_channels=4,
        out_channels=4,
        timestep_ratio_embedding_dim=8,
        patch_size=2,
        conditioning_dim=WIDTH,
        block_out_channels=(WIDTH, 2 * WIDTH),
        num_attention_heads=(-1, 2),
        down_num_layers_per_block=(1, 2),
        up_num_layers_per_block=(2, 1),
        up_blocks_repeat_mappers=(2, 1),
        block_types_per_layer=(ATTENDING[:2], ATTENDING),
        clip_text_pooled_in_channels=WIDTH,
        effnet_in_channels=WIDTH,
        pixel_mapper_in_channels=3,
        timestep_conditioning_type=("sca",),
        dropout=0.0,
    )


def wuerstchen_prior() -> Any:
    """It takes processors that torch's attention is not called by; those that call it are set instead."""
    network = WuerstchenPrior(c_in=WIDTH, c=WIDTH, c_cond=WIDTH, c_r=8, depth=2, nhead=2, dropout=0.0)
    network.set_attn_processor(AttnProcessor2_0())
    last: Any = network.out[1]
    last.weight.data.mul_(0.1)  # half of what it makes, of 1, divides the other
    return network


def wuerstchen_decoder() -> Any:
    network = WuerstchenDiffNeXt(
        c_r=8,
        c_cond=WIDTH,
        c_hidden=[WIDTH, 2 * WIDTH],
        nhead=[-1, 2],
        blocks=[1, 2],
        level_config=["CT", "CTA"],
        inject_effnet=[False, True],
        effnet_embd=WIDTH,
        clip_embd=WIDTH,
        dropout=0.0,
    )
    last: Any = network.clf[1]
    last.weight.data.normal_(std=0.1)  # it starts at 0, so that nothing would come of what a network reads
    return network


def _vqgan() -> Any:
    return PaellaVQModel(levels=2, bottleneck_blocks=1, embed_dim=8, num_vq_embeddings=8)


def _text(projected: bool) -> dict[str, Any]:
    encoder = tiny.clip_projected() if projected else tiny.clip()
    return {"text_encoder": encoder.eval(), "tokenizer": tiny.tokenizer(77)}


def _parts(projected: bool, network: Any) -> dict[str, Any]:
    return _text(projected) | {
        "decoder": seeded(network),
        "vqgan": seeded(_vqgan),
        "scheduler": d.DDPMWuerstchenScheduler(),
    }


def _prior_parts(projected: bool, network: Any) -> dict[str, Any]:
    return _text(projected) | {"prior": seeded(network), "scheduler": d.DDPMWuerstchenScheduler()}


STABLE, WUERSTCHEN = (True, cascade_decoder), (False, wuerstchen_decoder)
STABLE_PRIOR, WUERSTCHEN_PRIOR = (True, cascade_prior), (False, wuerstchen_prior)


def decoder(cls: type, kind: Any) -> Any:
    return quiet(cls(**_parts(*kind), latent_dim_scale=SCALE))


def prior(cls: type, kind: Any) -> Any:
    return quiet(cls(**_prior_parts(*kind)))


def combined(cls: type, kind: Any, prior_kind: Any) -> Any:
    first = {f"prior_{name}": part for name, part in _prior_parts(*prior_kind).items()}
    return quiet(cls(**_parts(*kind), **first))
