"""Videos that attend within frames and over time in turn: the chain, mask and contrast of each frame."""

import copy

import diffusers as d
import pytest
import torch

import sag.degraded
from sag import SelfAttentionGuidance
from tests import tiny_factorised as tiny
from tests import tiny_networks as networks
from tests.families.test_videos import first_record, normal
from tests.matrix.building import seeded
from tests.matrix.check import seen
from tests.matrix.factorised import FACTORISED_ROWS as ROWS
from tests.matrix.factorised import FRAMES, animated, videos
from tests.matrix.preparing import cast, embeddings_in
from tests.matrix.rows import run
from tests.sag import oracle
from tests.tiny_models import PROMPT, Call
from tokenrank_guidance import UnsupportedError, capture
from tokenrank_guidance.components import denoiser_of
from tokenrank_guidance.families.registry import tokens_of

VIDEOS, HEIGHT, WIDTH = 2, 8, 12
CLOCK = {"timestep": torch.tensor(500)}


def of_videos(name="sample", **more):
    return {name: normal(VIDEOS, 4, FRAMES, HEIGHT, WIDTH), "encoder_hidden_states": words()} | CLOCK | more


def words(rows=VIDEOS):
    return normal(rows, 7, tiny.WIDTH)


def motion():
    return of_videos(encoder_hidden_states=words(VIDEOS * FRAMES))


def stable_video():
    sample = normal(VIDEOS, FRAMES, 8, HEIGHT, WIDTH)
    return of_videos(sample=sample, added_time_ids=torch.ones(VIDEOS, 3))


def image_to_video():
    pictures = {
        "image_latents": normal(VIDEOS, 4, FRAMES, HEIGHT, WIDTH),
        "image_embeddings": normal(VIDEOS, 1, tiny.WIDTH),
    }
    return of_videos(fps=torch.full((VIDEOS,), 8), **pictures)


def latte():
    return of_videos("hidden_states", timestep=torch.full((VIDEOS,), 500))


# How to build a network, its inputs, and latents a side of a token.
NETWORKS = {
    "motion": (tiny.motion, motion, 1),
    "motion, none in the middle": (lambda: tiny.motion(middle=False), motion, 1),
    "stable video": (tiny.stable_video, stable_video, 1),
    "text to video": (tiny.text_to_video, of_videos, 1),
    "image to video": (tiny.image_to_video, image_to_video, 1),
    "latte": (tiny.latte, latte, 2),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_a_frame_is_a_row_and_its_tokens_are_places(name):
    """Changing one latent of one frame changes tokens around it, mostly in the row of that frame."""
    build, given, side = NETWORKS[name]
    model, inputs = seeded(build), given()
    before, _ = first_record(model, inputs)
    sample = inputs.get("sample", inputs.get("hidden_states"))
    time = 1 if name == "stable video" else 2
    sample[1].select(time - 1, 2)[:, 3 * side, 7] += 0.3
    after, _ = first_record(model, inputs)
    grid = (HEIGHT // side, WIDTH // side)
    assert (before.grid, before.frames, before.batch) == (grid, FRAMES, VIDEOS * FRAMES)
    moved = (after.q - before.q).abs().sum((1, 3))
    row = int(moved.sum(1).argmax())
    weight = (moved[row] - moved[row].median()).clamp(min=0).view(grid)
    middle = [(weight.sum(1 - axis) @ torch.arange(grid[axis]).float() / weight.sum()) for axis in (0, 1)]
    assert row == 1 * FRAMES + 2
    torch.testing.assert_close(torch.stack(middle), torch.tensor([3.0, 7 // side]), rtol=0, atol=0.75)


@pytest.mark.parametrize("name", NETWORKS)
def test_the_map_is_the_layers_own(name):
    """And no layer over time is among those that can be chosen."""
    build, given, _ = NETWORKS[name]
    model, outputs = seeded(build), {}
    names = [layer for layer, own in tokens_of(model).attention(model).items() if own]
    for layer in names:
        part = model.get_submodule(layer).to_out[0]
        part.register_forward_hook(lambda _, args, made, layer=layer: outputs.update({layer: args[0]}))
        value = model.get_submodule(layer).to_v
        value.register_forward_hook(lambda _, args, made, layer=layer: outputs.update({f"{layer}.v": made}))
    with capture(model, layers="all") as maps, torch.no_grad():
        model(**given(), return_dict=False)
    assert [record.module for record in maps] == names and all(".attn1" in layer for layer in names)
    for record in maps:
        assert record.frames == FRAMES and record.batch == VIDEOS * FRAMES
        values = outputs[f"{record.module}.v"].unflatten(-1, (record.heads, -1)).transpose(1, 2)
        made = (record.maps() @ values).transpose(1, 2).flatten(2)
        torch.testing.assert_close(made, outputs[record.module], rtol=1e-4, atol=1e-5)


def some(default, *others):
    """The others' cost is the matrix's."""
    return [*default, *(pytest.param(name, marks=pytest.mark.matrix) for name in others)]


CLEAN = some(("StableVideoDiffusion", "Latte"), "AnimateDiff", "PIA", "TextToVideoSD", "I2VGenXL")
GUIDED = some(("AnimateDiffControlNet", "Latte"), "AnimateDiff", "PIA", "TextToVideoSD")
ALONE = ("AnimateDiffControlNet", "PIA")  # take one picture or control video


@pytest.mark.parametrize("name", CLEAN)
def test_the_clean_video_is_the_schedulers_own(name, monkeypatch):
    """At every step: Stable Video Diffusion's begins at σ = 700."""
    row = ROWS[name]
    pipe, arguments = row.build(), row.arguments(Call(steps=3, cfg=False))
    found, own, split = [], [], sag.degraded._split
    monkeypatch.setattr(
        sag.degraded, "_split", lambda call, level: found.append(split(call, level)) or found[-1]
    )
    step = type(pipe.scheduler).step

    def watched(self, model_output, timestep, sample, **options):
        own.append(step(copy.deepcopy(self), model_output, timestep, sample).pred_original_sample)
        return step(self, model_output, timestep, sample, **options)

    monkeypatch.setattr(type(pipe.scheduler), "step", watched)
    with SelfAttentionGuidance(sag_scale=1e-9)(pipe):
        run(pipe, arguments)
    assert len(found) == len(own) >= 2
    for (clean, _), wanted in zip(found, own, strict=True):
        clean = clean.transpose(1, 2).flatten(0, 1) if wanted.ndim == 4 else clean
        torch.testing.assert_close(clean, wanted.to(clean.dtype), rtol=1e-3, atol=1e-3)


@torch.no_grad()
def by_frame(model, inputs, scale, table):
    """s·(ε − ε̂) of the first half's videos, each frame by its own map, in plain loops."""
    name = "sample" if "sample" in inputs else "hidden_states"
    x = inputs[name].clone()
    level = oracle.noise_level("sd", torch.as_tensor(inputs["timestep"]), table)
    with capture(model) as maps:
        output = model(**inputs | {"return_dict": False})[0][:, :4]
    masks = {}
    for video in range(len(x) // 2):
        for frame in range(FRAMES):
            matrix = oracle.mean_map(maps[-1], video * FRAMES + frame)
            mask = oracle.hard(oracle.token_score(matrix, "tokenrank").view(maps[-1].grid))
            one, made = x[video, :4, frame], output[video, :, frame]
            x[video, :4, frame] = oracle.degraded("sd", one, made, mask, level)
            masks[video, frame] = mask
    shift = scale * (output - model(**inputs | {name: x, "return_dict": False})[0][:, :4])
    for (video, frame), mask in masks.items():
        one, made = inputs[name][video, :4, frame], output[video, :, frame]
        own = shift[video, :, frame]
        own.copy_(oracle.rescaled("sd", one, made, own.clone(), mask.shape, level, 1.0))
    return shift[: len(x) // 2]


@pytest.mark.parametrize("name", GUIDED)
def test_the_guided_output_is_the_oracles(name):
    """Two videos, so that no frame is taken for another video's."""
    row = ROWS[name]
    pipe, arguments = row.build(), row.arguments(Call(steps=2, batch=1 if name in ALONE else 2))
    arguments = embeddings_in(torch.float64)(pipe, arguments)
    model = denoiser_of(cast(torch.float64)(pipe))
    with SelfAttentionGuidance(sag_scale=0.6)(pipe), seen(model) as calls:
        run(pipe, arguments)
    main = calls[-1]
    shift = by_frame(model, main.inputs, 0.6, pipe.scheduler.alphas_cumprod)
    with torch.no_grad():
        wanted = model(**main.inputs | {"return_dict": False})[0]
    wanted[:, :4] += torch.cat([shift] * 2)
    assert shift.abs().amax((1, 3, 4)).min() > 1e-5
    assert (main.output - wanted).abs().max() / wanted.abs().max() <= 1e-7


def test_split_inference_is_refused():
    """FreeNoise alone works over time, and is none of ours."""
    parts = {"text_encoder": seeded(networks.clip), "tokenizer": networks.tokenizer(77)}
    pipe = animated(d.AnimateDiffPipeline, **parts)
    pipe.motion_adapter = d.MotionAdapter(block_out_channels=(32,), motion_norm_num_groups=4)
    pipe.enable_free_noise(context_length=2, context_stride=1)
    arguments = videos(Call(cfg=False)) | {"prompt": PROMPT, "prompt_embeds": None, "num_inference_steps": 1}
    with SelfAttentionGuidance()(pipe) as guidance:
        run(pipe, arguments)
    assert len(guidance.steps) == 1
    pipe.enable_free_noise_split_inference(spatial_split_size=8, temporal_split_size=2)
    refused = pytest.raises(UnsupportedError, match="gives each layer a few frames")
    with refused, SelfAttentionGuidance()(pipe):
        run(pipe, arguments)
