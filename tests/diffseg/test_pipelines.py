"""Every family, any size, any precision."""

import pytest
import torch

from diffseg import DiffSeg, Settings, segment_records
from diffseg.passes.denoise import denoiser_pass
from diffseg.passes.sizes import size_multiple
from tests.capture.helpers import hook_counts
from tests.diffseg.helpers import image
from tests.tiny_models import PIPELINES, pipeline
from tokenrank_guidance import UnsupportedError, capture
from tokenrank_guidance.components import denoiser_of, native_resolution
from tokenrank_guidance.tiny import load_pipeline

SMALL = {"num_anchors": 32, "resolution": 32}


def structured(height, width):
    """Two halves of different colour and texture."""
    picture = 0.2 * image(height, width)
    picture[0, :, : width // 2] += 0.8
    return picture


@pytest.mark.parametrize("name", PIPELINES)
def test_every_family_segments_any_size(name):
    pipe = pipeline(name)
    segmenter = DiffSeg.from_pipe(pipe, **SMALL)
    before = hook_counts(denoiser_of(pipe))
    found = segmenter(structured(37, 53))
    assert found.labels.shape == (37, 53) and found.labels.dtype == torch.int64
    assert found.labels.min() >= 0 and found.labels.max() < len(found)
    assert found.anchors.shape == (min(32, found.scores.numel()), 2)
    assert found.scores.mean().item() == pytest.approx(1, abs=1e-4)
    torch.testing.assert_close(found.masks.sum((1, 2)), torch.ones(len(found)))
    height, width = found.grid
    assert height < width or name == "dit"
    assert hook_counts(denoiser_of(pipe)) == before


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("name", PIPELINES)
def test_half_precision_models(name, dtype):
    found = DiffSeg.from_pipe(pipeline(name, dtype=dtype), **SMALL)(structured(32, 32))
    assert found.masks.dtype == torch.float32 and torch.isfinite(found.masks).all()


def test_the_pass_is_unconditional_at_the_timestep_without_noise():
    pipe, seen = pipeline("sd"), []
    handle = pipe.unet.register_forward_pre_hook(lambda m, a, kw: seen.append(kw), with_kwargs=True)
    picture = structured(32, 32)
    denoiser_pass(pipe, picture, Settings())
    denoiser_pass(pipe, picture, Settings(add_noise=True, timestep=100))
    handle.remove()
    latents = pipe.vae.encode(2 * picture[None] - 1).latent_dist.mode() * pipe.vae.config.scaling_factor
    torch.testing.assert_close(seen[0]["sample"], latents)
    assert [call["timestep"].tolist() for call in seen] == [[300], [100]]
    torch.testing.assert_close(seen[0]["encoder_hidden_states"], pipe.encode_prompt("", "cpu", 1, False)[0])
    level = pipe.scheduler.alphas_cumprod[100].sqrt()
    noise = (seen[1]["sample"] - level * latents) / (1 - level**2).sqrt()
    torch.testing.assert_close(noise, torch.randn(latents.shape, generator=torch.Generator().manual_seed(0)))


def test_flux_is_packed_as_its_pipeline_packs():
    pipe, seen = pipeline("flux"), []
    handle = pipe.transformer.register_forward_pre_hook(lambda m, a, kw: seen.append(kw), with_kwargs=True)
    picture = structured(32, 48)
    denoiser_pass(pipe, picture, Settings(resolution=40))
    handle.remove()
    height, width = seen[0]["img_ids"][-1, 1:].int().tolist()
    latents = (
        pipe.vae.encode(
            2
            * torch.nn.functional.interpolate(
                picture[None], (4 * height + 4, 4 * width + 4), mode="bilinear", antialias=True
            )
            - 1
        ).latent_dist.mode()
        * pipe.vae.config.scaling_factor
    )
    packed = pipe._pack_latents(latents, *latents.shape)
    torch.testing.assert_close(seen[0]["hidden_states"], packed, rtol=1e-4, atol=1e-4)
    assert torch.equal(
        seen[0]["img_ids"], pipe._prepare_latent_image_ids(1, height + 1, width + 1, "cpu", torch.float32)
    )


def test_batch_of_different_sizes_is_the_images_one_by_one():
    segmenter = DiffSeg.from_pipe(pipeline("sd"), **SMALL)
    pictures = [structured(40, 24), structured(16, 64), structured(33, 33)]
    together = segmenter(pictures)
    assert isinstance(together, list)
    for picture, found in zip(pictures, together, strict=True):
        alone = segmenter(picture)
        assert torch.equal(found.labels, alone.labels) and torch.equal(found.masks, alone.masks)


def test_reference_needs_room_for_its_grid():
    with pytest.raises(ValueError, match="the reference grid needs a perfect square of at most 8²"):
        DiffSeg.from_pipe(load_pipeline("tiny-flux"), "reference", resolution=64)(structured(64, 64))


def test_structure_is_found():
    picture = torch.zeros(3, 64, 128)
    picture[0, :, :64], picture[2, :, 64:] = 0.9, 0.7
    found = DiffSeg.from_pipe(load_pipeline("tiny-flux"), resolution=96)(picture)
    left, right = found.labels[:, :56].flatten().mode().values, found.labels[:, 72:].flatten().mode().values
    assert left != right


def test_records_of_any_model_give_what_the_pipeline_gives():
    pipe, picture = load_pipeline("tiny-flux"), structured(48, 80)
    settings = Settings(num_anchors=40)
    with capture(pipe.transformer, "all") as records:
        denoiser_pass(pipe, picture, settings)
    from_records = segment_records(list(records), (48, 80), settings)[0]
    direct = DiffSeg(pipe, settings)(picture)
    assert torch.equal(from_records.labels, direct.labels)
    assert torch.equal(from_records.scores, direct.scores)
    alone = segment_records(records[-1], (48, 80), settings)[0]
    assert torch.equal(alone.labels, segment_records(records[-1:], (48, 80), settings)[0].labels)


def test_layers_can_be_chosen():
    pipe = pipeline("sd")
    middle = DiffSeg.from_pipe(pipe, layers="auto", **SMALL)(structured(32, 32))
    every = DiffSeg.from_pipe(pipe, **SMALL)(structured(32, 32))
    assert middle.grid[0] < every.grid[0]


def test_too_many_tokens_and_unknown_pipelines_are_named():
    segmenter = DiffSeg.from_pipe(load_pipeline("tiny-flux"), resolution=128, max_tokens=100)
    with pytest.raises(
        ValueError, match="16×16 = 256 image tokens, more than max_tokens=100; lower resolution"
    ):
        segmenter(structured(64, 64))
    with pytest.raises(ValueError, match="neither a unet nor a transformer"):
        DiffSeg.from_pipe(object())
    pipe = pipeline("dit")
    pipe.transformer = torch.nn.Linear(2, 2)
    with pytest.raises(
        UnsupportedError,
        match=r"cannot segment with Linear: how a picture is put into it is not known here; known: .*UNet2DC",
    ):
        DiffSeg.from_pipe(pipe)


def test_sizes_of_pipelines():
    assert {name: size_multiple(pipeline(name)) for name in PIPELINES} == {
        "sd": 4, "sdxl": 4, "sd3": 4, "flux": 4, "pixart": 4, "dit": 4, "ddpm": 4
    }  # fmt: skip
    assert native_resolution(load_pipeline("tiny-flux")) == 128
    assert native_resolution(pipeline("pixart")) == native_resolution(pipeline("sd")) == 32
