"""Stable Cascade and Würstchen: their maps, their noise levels, and one or both of their stages guided."""

import diffusers as d
import pytest
import torch
from diffusers.models.attention_processor import AttnProcessor
from diffusers.schedulers import scheduling_ddpm_wuerstchen

import sag.degraded
from sag import SelfAttentionGuidance
from tests import tiny_cascades as tiny
from tests.matrix.building import seeded
from tests.matrix.rows import ROWS, run
from tests.sag.helpers import traces
from tests.tiny_models import Call
from tokenrank_guidance import CaptureError, UnsupportedError, capture
from tokenrank_guidance.components import denoiser_of
from tokenrank_guidance.families.registry import tokens_of

STAGES = ["StableCascadePrior", "StableCascadeDecoder", "WuerstchenPrior", "WuerstchenDecoder"]
COMBINED = ["StableCascadeCombined", "WuerstchenCombined"]


def built(name, cfg=False, steps=2):
    return ROWS[name].build(), ROWS[name].arguments(Call(cfg=cfg, steps=steps))


def last(block, calls):
    """Keeps what a block was given."""
    return block.register_forward_pre_hook(lambda _, args: calls.append([value.clone() for value in args]))


def dense(block, image, text):
    """(heads, tokens, tokens) by the block's weights: pixel by pixel, over all keys, then the image's own."""
    layer = block.attention
    channels, height, width = image.shape
    normed = torch.nn.functional.layer_norm(image.movedim(0, -1), (channels,), eps=1e-6)
    pixels = torch.stack([normed[row, column] for row in range(height) for column in range(width)])
    keys = torch.cat([pixels, block.kv_mapper(text)])
    queries, keys = (made.chunk(layer.heads, -1) for made in (layer.to_q(pixels), layer.to_k(keys)))
    maps = []
    for q, k in zip(queries, keys, strict=True):
        weights = torch.exp(q @ k.T / q.shape[1] ** 0.5)
        weights = weights / weights.sum(1, keepdim=True)
        own = weights[:, : height * width]
        maps.append(own / own.sum(1, keepdim=True))
    return torch.stack(maps)


@pytest.mark.parametrize("name", STAGES)
def test_the_map_is_the_layers_own(name):
    """Each row is the part of the weights that is the image's; the prompt's keys come after."""
    pipe, arguments = built(name, cfg=True)
    model, calls = denoiser_of(pipe), []
    layers = tokens_of(model).attention(model)
    assert layers and all(layers.values())
    with capture(model) as maps:
        run(pipe, arguments)
    record = maps[-1]
    block = model.get_submodule(record.module.rpartition(".")[0])
    handle = last(block, calls)
    run(pipe, arguments)
    handle.remove()
    image, text = calls[-1]
    assert record.grid == tuple(image.shape[-2:]) and len(image) == 2
    for row in (0, 1):
        with torch.no_grad():
            wanted = dense(block, image[row], text[row])
        torch.testing.assert_close(record.maps()[row], wanted, rtol=1e-4, atol=1e-6)


def implied(scheduler, before, after, t, end):
    """x̂₀ of a step without its noise: q(x_s | x_t, x₀)'s mean (Ho et al. 2020, eq. 7), solved for x₀."""

    def kept(time):
        s = 0.008
        share = torch.cos((time + s) / (1 + s) * torch.pi / 2) ** 2
        return (share / torch.cos(torch.tensor(s / (1 + s) * torch.pi / 2)) ** 2).clamp(1e-4, 0.9999)

    now, then = kept(t), kept(end)
    ratio = now / then
    mean = after * (1 - now) - ratio.sqrt() * (1 - then) * before
    return mean / (then.sqrt() * (1 - ratio))


@pytest.mark.parametrize("name", STAGES)
def test_the_clean_sample_is_the_one_that_a_step_of_the_scheduler_leads_to(name, monkeypatch):
    pipe, arguments = built(name, steps=3)
    monkeypatch.setattr(
        scheduling_ddpm_wuerstchen, "randn_tensor", lambda shape, **options: torch.zeros(shape)
    )
    found, own, split = [], [], sag.degraded._split
    monkeypatch.setattr(
        sag.degraded, "_split", lambda call, level: found.append(split(call, level)) or found[-1]
    )
    step = type(pipe.scheduler).step

    def watched(self, model_output, timestep, sample, **options):
        made = step(self, model_output, timestep, sample, **options)
        at = int((self.timesteps - timestep[0]).abs().argmin())
        own.append(implied(self, sample, made.prev_sample, *self.timesteps[[at, at + 1]]))
        return made

    monkeypatch.setattr(type(pipe.scheduler), "step", watched)
    with SelfAttentionGuidance(sag_scale=1e-9)(pipe) as guidance:
        run(pipe, arguments)
    assert [(one.number, round(one.timestep, 4)) for one in guidance.steps] == [
        (0, 1.0),
        (1, 0.6667),
        (2, 0.3333),
    ]
    for (clean, _), wanted in zip(found, own, strict=True):
        torch.testing.assert_close(clean, wanted, rtol=1e-3, atol=1e-3 * wanted.abs().max().item())


@pytest.mark.parametrize("name", [*STAGES, *COMBINED])
def test_guidance_changes_it_and_scale_0_does_not(name):
    pipe, arguments = built(name, cfg=True)
    model = denoiser_of(pipe)
    before, plain = traces(model), run(pipe, arguments)
    with SelfAttentionGuidance(sag_scale=0)(pipe):
        assert torch.equal(run(pipe, arguments), plain)
    with SelfAttentionGuidance()(pipe) as guidance:
        guided = run(pipe, arguments)
    assert torch.isfinite(guided).all() and not torch.equal(guided, plain)
    assert [step.number for step in guidance.steps] == [0, 1]
    assert traces(model) == before


@pytest.mark.parametrize("name", COMBINED)
def test_both_stages_are_guided_where_both_are_asked_for(name):
    """A guidance on the combined pipeline is its decoder's; the prior, inside it, takes one of its own."""
    pipe, arguments = built(name)
    plain = run(pipe, arguments)
    images = {}
    with SelfAttentionGuidance()(pipe):
        images["decoder"] = run(pipe, arguments)
    with SelfAttentionGuidance()(pipe.prior_pipe) as first:
        images["prior"] = run(pipe, arguments)
    with SelfAttentionGuidance()(pipe) as second, SelfAttentionGuidance()(pipe.prior_pipe) as first:
        images["both"] = run(pipe, arguments)
    assert len(first.steps) == len(second.steps) == 2
    every = [plain, *images.values()]
    assert all(not torch.equal(one, other) for i, one in enumerate(every) for other in every[:i])
    assert torch.equal(run(pipe, arguments), plain)


@pytest.mark.parametrize("name", ["StableCascadePrior", "StableCascadeDecoder", "StableCascadeCombined"])
def test_a_scheduler_by_whose_timesteps_its_denoiser_is_not_called_is_refused(name):
    """With others, diffusers gives it a ratio made of their noise levels."""
    pipe, arguments = built(name)
    own = pipe.scheduler
    refusal = f"cannot guide {type(pipe).__name__} with DDPMScheduler: .* supported: DDPMWuerstchenScheduler"
    pipe.scheduler = d.DDPMScheduler()
    with pytest.raises(UnsupportedError, match=refusal):
        SelfAttentionGuidance().enable(pipe)
    pipe.scheduler = own
    with SelfAttentionGuidance()(pipe):
        inner = getattr(pipe, "decoder_pipe", pipe)
        inner.scheduler = d.DDPMScheduler()
        with pytest.raises(UnsupportedError, match="with DDPMScheduler"):
            run(pipe, arguments)


def test_wuerstchens_prior_says_by_which_processors_it_is_seen():
    """It sets others itself."""
    pipe, arguments = built("WuerstchenPrior")
    pipe.prior.set_default_attn_processor()
    assert isinstance(next(iter(pipe.prior.attn_processors.values())), AttnProcessor)
    advice = r"AttnProcessor, which did not call .*model.set_attn_processor\(AttnProcessor2_0\(\)\)"
    with pytest.raises(CaptureError, match=advice), SelfAttentionGuidance()(pipe):
        run(pipe, arguments)


def test_layers_that_see_the_prompt_alone_are_cross_attention():
    options = dict(seeded(tiny.cascade_prior).config) | {"self_attn": [True, False]}
    options.pop("_use_default_values", None)
    model = d.models.StableCascadeUNet.from_config(options)
    kinds = tokens_of(model).attention(model)
    assert list(kinds.values()) == [True, False, False, True]
