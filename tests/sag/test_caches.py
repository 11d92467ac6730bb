"""Caches from call to call: the extra pass neither reads nor fills those of the pipeline's own passes."""

import diffusers as d
import pytest
import tomesd
import torch
from DeepCache import DeepCacheSDHelper
from diffusers.hooks import apply_faster_cache

from sag import SelfAttentionGuidance
from tests.sag.helpers import count_calls
from tests.tiny_models import Call, pipeline, run
from tokenrank_guidance import CaptureError, UnsupportedError

CALL = Call(cfg=False, steps=4)
NEVER = (-1, 0)  # timesteps at which a cache may serve: none


def distilled(pipe, timesteps=NEVER):
    return d.FasterCacheConfig(
        spatial_attention_block_skip_range=2,
        spatial_attention_timestep_skip_range=timesteps,
        unconditional_batch_timestep_skip_range=NEVER,
        current_timestep_callback=lambda: 500,
        is_guidance_distilled=True,
        tensor_format="BCHW",
    )


def broadcast(pipe, timesteps=NEVER):
    return d.PyramidAttentionBroadcastConfig(
        spatial_attention_block_skip_range=2,
        spatial_attention_timestep_skip_range=timesteps,
        current_timestep_callback=lambda: 500,
    )


def magnitude(pipe, threshold=-1.0):
    return d.MagCacheConfig(
        threshold=threshold,
        num_inference_steps=CALL.steps,
        retention_ratio=0.0,
        mag_ratios=[1.0] * CALL.steps,
    )


NEVER_HIT = {
    "first block": lambda pipe: d.FirstBlockCacheConfig(threshold=0.0),
    "faster": distilled,
    "pyramid": broadcast,
    "magnitude": magnitude,
    "taylor": lambda pipe: d.TaylorSeerCacheConfig(cache_interval=1, disable_cache_before_step=99),
}


def guided(pipe, **options):
    with SelfAttentionGuidance(**options)(pipe) as guidance:
        images = run("flux", pipe, CALL)
    return images, guidance.steps


@pytest.mark.parametrize("name", NEVER_HIT)
def test_with_a_cache_that_never_hits_guided_images_are_those_without(name):
    pipe = pipeline("flux")
    wanted, _ = guided(pipe)
    pipe.transformer.enable_cache(NEVER_HIT[name](pipe))
    plain = run("flux", pipe, CALL)
    assert torch.equal(guided(pipe)[0], wanted)
    assert torch.equal(run("flux", pipe, CALL), plain)


ALWAYS_HIT = {
    "first block": lambda pipe: d.FirstBlockCacheConfig(threshold=1e9),
    "pyramid": lambda pipe: broadcast(pipe, (0, 1000)),
}


@pytest.mark.parametrize("name", ALWAYS_HIT)
def test_a_cache_that_hits_spares_work_in_both_passes(name):
    """The last map that was seen ranks tokens meanwhile."""
    pipe, ran = pipeline("flux"), []
    layer = pipe.transformer.transformer_blocks[-1].attn.to_q
    layer.register_forward_hook(lambda *_: ran.append(None))
    without, steps = guided(pipe)
    every, plain = len(ran), run("flux", pipe, CALL)
    pipe.transformer.enable_cache(ALWAYS_HIT[name](pipe))
    ran.clear()
    images, cached = guided(pipe)
    assert 0 < len(ran) < every == 7  # the first step is noise alone
    assert len(cached) == 4
    assert torch.equal(cached[0].mask, steps[0].mask)
    assert torch.isfinite(images).all()
    assert not torch.equal(images, run("flux", pipe, CALL))
    pipe.transformer.disable_cache()
    assert torch.equal(run("flux", pipe, CALL), plain)
    assert torch.equal(guided(pipe)[0], without)


def test_guidance_that_begins_while_a_cache_spares_its_layer_says_so():
    pipe = pipeline("flux")
    pipe.transformer.enable_cache(ALWAYS_HIT["pyramid"](pipe))
    with pytest.raises(CaptureError, match=r"Pyramid.* spared the layers .* guide from the first step"):
        guided(pipe, start=0.25)


@pytest.mark.filterwarnings("ignore:torch.meshgrid")
def test_fastercache_that_skips_a_half_is_refused():
    pipe = pipeline("pixart")
    config = distilled(pipe)
    config.is_guidance_distilled = False
    apply_faster_cache(pipe.transformer, config)
    with SelfAttentionGuidance()(pipe), pytest.raises(UnsupportedError, match="FasterCache skips the uncond"):
        run("pixart", pipe, Call(cfg=True, steps=2))


def test_deepcache_is_refused_by_name():
    pipe = pipeline("sd")
    made = DeepCacheSDHelper(pipe=pipe)
    made.set_params(cache_interval=2, cache_branch_id=0)
    with SelfAttentionGuidance()(pipe):
        made.enable()
        with pytest.raises(UnsupportedError, match="DeepCache keeps features for all calls of a timestep"):
            run("sd", pipe, Call(steps=2))
    with pytest.raises(UnsupportedError, match="DeepCache"):
        SelfAttentionGuidance().enable(pipe)


def test_merged_tokens_are_guided_where_a_layer_is_whole_and_else_refused_by_name():
    pipe = pipeline("sd")
    call = Call(steps=2, height=64, width=64)
    tomesd.apply_patch(pipe, ratio=0.5, use_rand=False)
    with SelfAttentionGuidance()(pipe) as guidance:
        found, calls = count_calls(pipe.unet, lambda: run("sd", pipe, call))
    assert calls == 4 and len(guidance.steps) == 2
    assert not torch.equal(found, run("sd", pipe, call))
    outer = "down_blocks.0.attentions.0.transformer_blocks.0.attn1"
    with (
        SelfAttentionGuidance(layers=outer)(pipe),
        pytest.raises(CaptureError, match=r"attends to merged tokens .* token merging \(ToMe\)"),
    ):
        run("sd", pipe, call)
    tomesd.remove_patch(pipe)


def test_a_step_of_noise_alone_is_counted_by_both_passes():
    """MagCache skips by the number of the step: passes that count apart would skip apart."""
    pipe, skipped = pipeline("flux"), []
    settings = d.MagCacheConfig(
        threshold=1.0, max_skip_steps=1, retention_ratio=0.0, num_inference_steps=4, mag_ratios=[1.0] * 4
    )
    pipe.transformer.enable_cache(settings)
    pipe.transformer.transformer_blocks[-1].attn.to_q.register_forward_hook(lambda *_: skipped.append(False))
    pipe.transformer.register_forward_pre_hook(lambda *_: skipped.append(True))
    images, steps = guided(pipe)
    calls = "".join("-" if one else "r" for one in skipped)
    assert calls == "-r-r--" * 2  # both run, then both are spared
    assert [step.noise_alone for step in steps] == [True, False, False, False]
    assert torch.isfinite(images).all()
