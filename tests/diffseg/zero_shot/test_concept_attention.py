"""ConceptAttention against a loop over blocks, heads and tokens of the model's own inputs."""

import math

import pytest
import torch
from diffusers import FluxTransformer2DModel

from diffseg.passes.denoise import denoiser_pass
from diffseg.settings import Settings
from diffseg.zero_shot import segment
from diffseg.zero_shot.concept_text import encode_concepts
from diffseg.zero_shot.layers import concept_layers
from diffseg.zero_shot.options import Options
from tests.capture.helpers import hook_counts
from tests.diffseg.helpers import image
from tests.tiny_models import denoiser, pipeline
from tokenrank_guidance import UnsupportedError

CONCEPTS, BACKGROUND = ["dog", "box"], ("sky", "dog")
SETTINGS = Settings(timestep=500, add_noise=True, resolution=32)


def seen_inputs(pipe, picture, caption):
    """Inputs of the model and of every joint attention, and the image's outputs before the projection."""
    model, seen = denoiser(pipe), {"attn": [], "out": []}
    handles = [
        model.register_forward_pre_hook(lambda m, a, kw: seen.update(model=kw), with_kwargs=True),
    ]
    for block in model.transformer_blocks:
        handles += [
            block.attn.register_forward_pre_hook(lambda m, a, kw: seen["attn"].append(kw), with_kwargs=True),
            block.attn.to_out[0].register_forward_pre_hook(lambda m, a: seen["out"].append(a[0])),
        ]
    with torch.no_grad():
        denoiser_pass(pipe, picture, SETTINGS, caption)
    for handle in handles:
        handle.remove()
    return seen


def rotate(x, cos, sin):
    """Rotary embedding of pairs of neighbours, written out."""
    out = torch.empty_like(x)
    even, odd = x[..., 0::2], x[..., 1::2]
    out[..., 0::2] = even * cos[:, 0::2] - odd * sin[:, 0::2]
    out[..., 1::2] = odd * cos[:, 1::2] + even * sin[:, 1::2]
    return out


def attended(attn, concepts, image_tokens, rotary):
    """Softmax over the concepts and the image, one head and one concept at a time."""
    size = attn.to_q.out_features // attn.heads
    rows = []
    for head in range(attn.heads):
        part = slice(head * size, (head + 1) * size)
        norm_q, norm_k = attn.norm_added_q, attn.norm_added_k
        q, k, v = (p(concepts)[0, :, part] for p in (attn.add_q_proj, attn.add_k_proj, attn.add_v_proj))
        image_k, image_v = (
            attn.norm_k(attn.to_k(image_tokens)[0, :, part]),
            attn.to_v(image_tokens)[0, :, part],
        )
        if rotary is not None:
            cos, sin = (side[-len(image_k) :] for side in rotary)
            image_k = rotate(image_k, cos, sin)
        q, k = norm_q(q), norm_k(k)
        weights = (q @ torch.cat([k, image_k]).T / math.sqrt(size)).softmax(-1)
        rows.append(weights @ torch.cat([v, image_v]))
    return torch.cat(rows, -1)[None]


@torch.no_grad()
def expected(pipe, picture, caption, layer):
    """The softmax over concepts at one double block."""
    model, seen = denoiser(pipe), seen_inputs(pipe, picture, caption)
    text = encode_concepts(pipe, (*CONCEPTS, "sky"))
    stream = model.context_embedder(text.tokens)
    scale = 1000 if "img_ids" in seen["model"] else 1
    temb = model.time_text_embed(seen["model"]["timestep"] * scale, text.pooled)
    for index in range(layer + 1):
        block, inputs = model.transformer_blocks[index], seen["attn"][index]
        if getattr(block, "context_pre_only", False):
            normed = block.norm1_context(stream, temb)
            out = attended(block.attn, normed, inputs["hidden_states"], inputs.get("image_rotary_emb"))
            continue
        normed, gate, shift, factor, gate_ff = block.norm1_context(stream, emb=temb)
        out = attended(block.attn, normed, inputs["hidden_states"], inputs.get("image_rotary_emb"))
        stream = stream + gate * block.attn.to_add_out(out)
        stream = stream + gate_ff * block.ff_context(block.norm2_context(stream) * (1 + factor) + shift)
    return (out[0] @ seen["out"][layer][0].T).softmax(0)[: len(CONCEPTS)]


@pytest.mark.parametrize(("name", "layer"), [("flux", 0), ("flux", 1), ("sd3", 1), ("sd3", 2)])
def test_output_space_products(name, layer):
    pipe = pipeline(name)
    changes = {"layers": f"transformer_blocks.{layer}.attn", "draws": 1, "resolution": 32}
    before = hook_counts(denoiser(pipe))
    picture, caption = image(24, 40), "a house"  # the concepts need not be in the caption
    found = segment(
        pipe, picture, CONCEPTS, caption, method="concept-attention", background=BACKGROUND, **changes
    )
    assert hook_counts(denoiser(pipe)) == before
    torch.testing.assert_close(
        found.heats.flatten(1), expected(pipe, picture, caption, layer), rtol=0, atol=1e-6
    )


def test_a_concept_is_encoded_alone_by_its_first_token():
    pipe = pipeline("flux")
    text = encode_concepts(pipe, ["dog", "sky"])
    own = pipe.encode_prompt("sky", None, device="cpu", max_sequence_length=77)
    torch.testing.assert_close(text.tokens[0, 1], own[0][0, 1])  # after <s>
    torch.testing.assert_close(text.pooled, pipe.encode_prompt("", None, max_sequence_length=77)[1])


def test_the_models_output_is_untouched():
    from tokenrank_guidance.components import denoiser_of

    pipe, outputs = pipeline("flux"), []
    handle = denoiser_of(pipe).register_forward_hook(lambda m, a, out: outputs.append(out[0]))
    denoiser_pass(pipe, image(32, 32), SETTINGS, "a dog")
    segment(pipe, image(32, 32), ["dog"], "a dog", method="concept-attention", draws=1, resolution=32)
    handle.remove()
    assert torch.equal(outputs[0], outputs[1])


def test_default_layers_and_blur():
    pipe = pipeline("flux")
    assert concept_layers(pipe, Options(layers="all")) == tuple(
        f"transformer_blocks.{i}.attn" for i in range(2)
    )
    with pytest.raises(UnsupportedError, match="double blocks alone, not single_transformer_blocks"):
        concept_layers(pipe, Options(layers="single_transformer_blocks.0.attn"))
    changes = {"method": "concept-attention", "draws": 1, "resolution": 32}
    plain, smooth = (segment(pipe, image(32, 32), ["dog"], "x", blur=b, **changes).heats for b in (0.0, 1.0))
    assert smooth.var() < plain.var()


def test_needs_joint_attention():
    with pytest.raises(UnsupportedError, match="needs FLUX or SD3"):
        segment(pipeline("sd"), image(32, 32), ["dog"], "a dog", method="concept-attention")


def test_guidance_distilled_flux():
    pipe = pipeline("flux")
    config = dict(pipe.transformer.config) | {"guidance_embeds": True}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        pipe.transformer = FluxTransformer2DModel.from_config(config).eval()
    for method in ("concept-attention", "bounce"):
        found = segment(pipe, image(32, 32), ["dog"], "a dog", method=method, draws=1, resolution=32)
        assert torch.isfinite(found.heats).all() and found.heats.std() > 0
