"""Which sides a pipeline can draw, and what it surely holds."""

import pytest
import torch

from tests.tiny_models import pipeline
from tokenrank_guidance.calls import Job, Sampling, call_arguments
from tokenrank_guidance.errors import UnsupportedError
from tokenrank_guidance.sizes import held_bytes, size_step


@pytest.mark.parametrize(
    ("name", "step"), [("sd", "vae"), ("flux", "packed"), ("sd3", "patch"), ("ddpm", "pixel")]
)
def test_sides_are_multiples_of_a_token(name, step):
    pipe = pipeline(name)
    scale = 1 if step == "pixel" else 2 ** (len(pipe.vae.config.block_out_channels) - 1)
    patch = {"packed": 2, "patch": 2}.get(step, 1)
    assert size_step(pipe) == scale * patch
    if name == "ddpm":
        return
    wrong = Sampling(1, height=32, width=32 + scale * patch // 2)
    with pytest.raises(UnsupportedError, match=f"width is {wrong.width}; .* multiples of {scale * patch}"):
        call_arguments(pipe, wrong, [Job("x", 0)])


@pytest.mark.parametrize("side", ["height", "width"])
def test_one_side_is_enough(side):
    """StableDiffusionPipeline by itself draws its own size then, and says nothing."""
    pipe = pipeline("sd")
    pipe.set_progress_bar_config(disable=True)
    own = pipe(**call_arguments(pipe, Sampling(1), [Job("x", 0)])).images[0]
    asked = 2 * getattr(own, side)
    drawn = pipe(**call_arguments(pipe, Sampling(1, **{side: asked}), [Job("x", 0)])).images[0]
    other = {"height": "width", "width": "height"}[side]
    assert (getattr(drawn, side), getattr(drawn, other)) == (asked, getattr(own, other))


def test_an_estimate_is_a_lower_bound():
    """Of what a decoder really allocates, as torch's profiler counts it."""
    pipe = pipeline("sd")
    scale, channels = pipe.vae_scale_factor, pipe.vae.config.latent_channels
    latents = torch.randn(1, channels, 64 // scale, 64 // scale)
    with torch.profiler.profile(profile_memory=True) as profile:
        pipe.vae.decode(latents)
    allocated = sum(max(0, event.self_cpu_memory_usage) for event in profile.events())
    assert 0 < held_bytes(pipe, 64, 64, 1) <= allocated
