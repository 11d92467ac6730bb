"""Sana's linear attention as a chain: what is seen of it is what its layers do."""

import pytest
import torch
from diffusers import SCMScheduler
from diffusers.models.attention_processor import AttnProcessor2_0
from torch import no_grad, randn

from diffseg import DiffSeg
from diffseg.words import word_tokens
from sag import SelfAttentionGuidance, degraded
from sag.predict import predict
from tests import tiny_sana as tiny
from tests.capture.helpers import seeded
from tests.matrix.building import run
from tests.matrix.sana import SANA_ROWS
from tests.tiny_models import Call
from tokenrank_guidance import AttentionTap, capture, multi_bounce, tokenrank
from tokenrank_guidance.components import native_resolution, pixels_per_latent
from tokenrank_guidance.errors import CaptureError, UnsupportedError
from tokenrank_guidance.markov import FactoredTransition
from tokenrank_guidance.sizes import size_step

MIDDLE = "transformer_blocks.1.attn1"


def inputs(height=4, width=6, batch=2):
    g = torch.Generator().manual_seed(1)
    return {
        "hidden_states": randn(batch, 4, height, width, generator=g),
        "encoder_hidden_states": randn(batch, 5, 16, generator=g),
        "timestep": torch.full((batch,), 500.0),
        "return_dict": False,
    }


def watched(model, name, given):
    """What went into a layer and came out of it."""
    seen = {}
    layer = model.get_submodule(name)
    handle = layer.register_forward_hook(lambda module, args, output: seen.update(x=args[0], out=output))
    model(**given)
    handle.remove()
    return layer, seen["x"], seen["out"]


def rows(layer, x):
    """The map by its definition, row by row, from the layer's own projections."""
    q, k = (getattr(layer, f"to_{side}")(x) for side in "qk")
    q = q if layer.norm_q is None else layer.norm_q(q)
    k = k if layer.norm_k is None else layer.norm_k(k)
    q, k = (side.clamp(min=0).double().unflatten(-1, (layer.heads, -1)).movedim(2, 1) for side in (q, k))
    products = torch.stack([(k * q[:, :, token, None]).sum(-1) for token in range(q.shape[2])], 2)
    sums = products.sum(-1, keepdim=True)
    return torch.where(sums > 0, products / sums, 1 / products.shape[-1])


@no_grad()
@pytest.mark.parametrize("norm", [None, "rms_norm_across_heads"])
def test_the_chain_is_what_the_layer_does(norm):
    model = seeded(tiny.transformer, qk_norm=norm)
    given = inputs()
    with capture(model) as maps:
        layer, x, out = watched(model, MIDDLE, given)
    (record,) = maps
    assert (record.module, record.grid, record.image, record.text) == (MIDDLE, (4, 6), slice(0, 24), None)
    torch.testing.assert_close(record.maps().double(), rows(layer, x), atol=1e-6, rtol=0)
    values = layer.to_v(x).unflatten(-1, (layer.heads, -1)).movedim(2, 1)
    mixed = (record.maps() @ values).movedim(1, 2).flatten(2)
    silent = (record.q == 0).all(-1).any(1)  # of one head or another: the layer gives zero there
    assert silent.sum() < 3
    torch.testing.assert_close(layer.to_out[0](mixed)[~silent], out[~silent], atol=4e-7, rtol=0)
    factored = record.transition("image")
    assert isinstance(factored, FactoredTransition)
    assert factored.shape == (2, 2, 24, 24)
    assert factored.rank == 9


@no_grad()
def test_capture_changes_no_bit_and_sees_every_self_attention():
    model, given = seeded(tiny.transformer), inputs()
    (plain,) = model(**given)
    with capture(model, "all") as maps:
        (out,) = model(**given)
    assert torch.equal(out, plain)
    assert [record.module for record in maps] == [f"transformer_blocks.{i}.attn1" for i in range(3)]
    with pytest.raises(ValueError, match="is cross-attention"):
        AttentionTap(model, "transformer_blocks.0.attn2")


@no_grad()
@pytest.mark.parametrize("token", [0, 7, 23])
def test_tokens_are_the_patches_row_by_row(token):
    model, given = seeded(tiny.transformer, patch_size=2), inputs(8, 12, batch=1)
    moved = given["hidden_states"].clone()
    row, column = divmod(token, 6)
    moved[:, :, 2 * row : 2 * row + 2, 2 * column : 2 * column + 2] += 1
    with capture(model, 0, keep=2) as maps:
        model(**given)
        model(**given | {"hidden_states": moved})
    before, after = maps
    assert before.grid == (4, 6)
    changed = (after.q - before.q).abs().amax((0, 1, 3)) > 0
    assert changed.nonzero().flatten().tolist() == [token]


@no_grad()
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision(dtype):
    model, given = seeded(tiny.transformer).to(dtype), inputs()
    given = {name: value.to(dtype) if torch.is_tensor(value) else value for name, value in given.items()}
    with capture(model) as maps:
        layer, x, _ = watched(model, MIDDLE, given)
    assert maps[-1].maps().dtype == torch.float32
    torch.testing.assert_close(maps[-1].maps().double(), rows(layer, x), atol=1e-6, rtol=0)
    rank = tokenrank(maps[-1])
    torch.testing.assert_close(rank.sum(-1), torch.ones(2))
    assert multi_bounce(maps[-1], start=3, n=2).shape == (2, 2, 24)


@no_grad()
def test_no_autocast_lowers_its_maps():
    model, given = seeded(tiny.transformer), inputs()
    with capture(model) as maps:
        model(**given)
    wanted = maps[-1].maps()
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(maps[-1].maps(), wanted)


@no_grad()
def test_a_token_whose_query_is_rectified_away_goes_anywhere():
    model, given = seeded(tiny.transformer), inputs(batch=1)
    layer = model.get_submodule(MIDDLE)

    def silence(module, args, output):
        return output.index_fill(1, torch.tensor([5]), -1.0)

    layer.to_q.register_forward_hook(silence)
    with capture(model) as maps:
        _, _, out = watched(model, MIDDLE, given)
    torch.testing.assert_close(out[0, 5], layer.to_out[0].bias)
    torch.testing.assert_close(maps[-1].maps()[0, :, 5], torch.full((2, 24), 1 / 24))


def test_derivatives_reach_queries_and_keys():
    model = seeded(tiny.transformer)
    with capture(model, detach=False) as maps:
        model(**inputs())
    tokenrank(maps[-1])[0, 3].backward()
    layer = model.get_submodule(MIDDLE)
    assert layer.to_q.weight.grad.abs().max() > 0
    assert layer.to_k.weight.grad.abs().max() > 0


@no_grad()
def test_another_processor_is_told_how_to_undo():
    model = seeded(tiny.transformer)
    model.get_submodule(MIDDLE).set_processor(AttnProcessor2_0())
    advice = (
        r"ran with AttnProcessor2_0, which did not call torch's matmul twice.*SanaLinearAttnProcessor2_0\(\)"
    )
    with pytest.raises(CaptureError, match=advice), capture(model):
        model(**inputs())


def clean_samples(scheduler):
    """What the scheduler itself makes of each model output."""
    seen = []
    name = "step" if isinstance(scheduler, SCMScheduler) else "convert_model_output"
    own = getattr(scheduler, name)

    def spy(*args, **kwargs):
        made = own(*args, **kwargs)
        seen.append(made[1] if name == "step" else made)
        return made

    setattr(scheduler, name, spy)
    return seen


@pytest.mark.parametrize("name", ["Sana", "Sana, timestep_scale", "SanaSprint", "SanaSprintImg2Img"])
def test_guidances_clean_estimate_is_the_schedulers_own(name, monkeypatch):
    """At every step, though Sprint's scheduler is given something else than its denoiser makes."""
    found = []

    def spied(*args):
        found.append(predict(*args))
        return found[-1]

    monkeypatch.setattr(degraded, "predict", spied)
    row = SANA_ROWS[name]
    pipe = row.build()
    with SelfAttentionGuidance(sag_scale=1e-12)(pipe) as guidance:
        wanted = clean_samples(pipe.scheduler)
        run(pipe, row.arguments(Call(cfg=False, steps=3)))
    unit = getattr(pipe.scheduler.config, "sigma_data", 1.0)
    assert len(found) == len(wanted) == len(guidance.steps) >= 2
    for (clean, _), own in zip(found, wanted, strict=True):
        torch.testing.assert_close(clean * unit, own, atol=2e-5, rtol=1e-4)
    timesteps = pipe.scheduler.timesteps.tolist()[-len(found) - (unit != 1) :]
    assert [step.timestep for step in guidance.steps] == timesteps[: len(found)]


def test_sizes_are_read_off_its_own_autoencoder():
    pipe = SANA_ROWS["Sana"].build()
    assert (pixels_per_latent(pipe), size_step(pipe), native_resolution(pipe)) == (4, 4, 32)


@no_grad()
@pytest.mark.parametrize("name", ["Sana", "Sana, timestep_scale"])
def test_a_picture_is_put_into_it_as_its_pipeline_would(name):
    pipe, given = SANA_ROWS[name].build(), []
    pipe.transformer.register_forward_pre_hook(
        lambda module, args, kwargs: given.append(kwargs), with_kwargs=True
    )
    picture = torch.rand(3, 32, 48, generator=torch.Generator().manual_seed(0))
    segmenter = DiffSeg.from_pipe(pipe, num_anchors=4, resolution=40, add_noise=False, timestep=300)
    assert segmenter(picture).labels.shape == (32, 48)
    latents = pipe.vae.encode(2 * picture[None] - 1).latent * pipe.vae.config.scaling_factor
    torch.testing.assert_close(given[0]["hidden_states"], latents)
    sigma = 3 * 0.3 / (1 + 2 * 0.3)  # flow_shift is 3
    scale = pipe.transformer.config.timestep_scale
    torch.testing.assert_close(given[0]["timestep"], torch.tensor([1000 * sigma * scale]))


def test_segments_are_named_by_the_words_that_its_other_layers_attend_to():
    pipe = SANA_ROWS["Sana"].build()
    picture = torch.rand(3, 32, 32, generator=torch.Generator().manual_seed(0))
    attended = []
    pipe.transformer.get_submodule("transformer_blocks.0.attn2").register_forward_pre_hook(
        lambda module, args, kwargs: attended.append(kwargs["encoder_hidden_states"]), with_kwargs=True
    )
    named = DiffSeg.from_pipe(pipe, num_anchors=4, resolution=32)(picture, caption="a BOX", nouns=["box"])
    assert "box" in named.names
    given = pipe.tokenizer("a box", padding="max_length", max_length=300).input_ids  # in small letters
    own = word_tokens(pipe, "a BOX", ["box"])[0]
    assert pipe.tokenizer.decode([given[i] for i in own]).replace(" ", "") == "box"
    assert attended[-1].shape[1] == len(given)


def test_no_picture_is_put_into_sprint():
    with pytest.raises(UnsupportedError, match="SCMScheduler has no alphas_cumprod"):
        DiffSeg.from_pipe(SANA_ROWS["SanaSprint"].build())


def doubled(module, args, output):
    return (2 * output[0],)


def test_what_sprint_does_to_its_output_is_checked_beyond_its_angles():
    row = SANA_ROWS["SanaSprint"]
    pipe, given = row.build(), row.arguments(Call(cfg=False, steps=2))
    with SelfAttentionGuidance()(pipe):
        pipe.transformer.register_forward_hook(doubled)  # after guidance's
        with pytest.raises(UnsupportedError, match="of what is added to all of them, 2 comes out"):
            run(pipe, given)
