"""The analogue for UNets against dense maps of its attention."""

import diffusers as d
import pytest
import torch
import torch.nn.functional as F

from diffseg.cross import TextAttention
from diffseg.passes.denoise import denoiser_pass
from diffseg.settings import Settings
from diffseg.zero_shot import Generate, segment
from tests.diffseg.helpers import image
from tests.diffseg.zero_shot import oracle
from tests.matrix.building import seeded
from tests.matrix.factorised import animated
from tests.tiny_models import denoiser, pipeline
from tests.tiny_networks import clip, tokenizer
from tokenrank_guidance import UnsupportedError
from tokenrank_guidance.capture import capture

CAPTION, DOG = "a big dog", [7, 8, 9]
SETTINGS = Settings(timestep=500, add_noise=True, resolution=32)
CHANGES = {"draws": 1, "resolution": 32, "lambda2_tol": 1e-9}


class Layers(TextAttention):
    """Every layer's cross-attention by itself."""

    def __init__(self):
        super().__init__()
        self.calls = []

    def add_cross(self, call):
        self.calls.append((call.q.double() @ call.k.double().mT * call.scale).softmax(-1)[0].mean(0))


def seen(pipe, picture):
    """Cross-attention to the word by layer, and the self-attention records."""
    layers = Layers()
    with layers.watching(denoiser(pipe)), capture(denoiser(pipe), "all") as records:
        denoiser_pass(pipe, picture, SETTINGS, CAPTION)
    grids = {one.grid[0] * one.grid[1]: one.grid for one in records}
    return [one[:, DOG].sum(-1).reshape(grids[len(one)]) for one in layers.calls], list(records)


def mean_on_finest(heats):
    finest = max((heat.shape for heat in heats), key=lambda grid: grid[0] * grid[1])
    total = 0
    for heat in heats:
        fine = F.interpolate(heat[None, None], finest, mode="bilinear")[0, 0]
        total = total + fine * heat.numel() / fine.numel()
    return total / len(heats)


@pytest.mark.parametrize("name", ["sd", "sdxl"])
@pytest.mark.parametrize("method", ["daam", "column"])
def test_cross_attention_is_the_mean_over_layers(name, method):
    pipe, picture = pipeline(name), image(24, 40)
    cross, _ = seen(pipe, picture)
    found = segment(pipe, picture, ["dog"], CAPTION, method=method, **CHANGES)
    torch.testing.assert_close(found.heats[0].double(), mean_on_finest(cross), rtol=0, atol=1e-6)


@pytest.mark.parametrize(("n", "direction"), [(2, "outgoing"), (3, "incoming")])
def test_self_attention_bounces_it(n, direction):
    pipe, picture = pipeline("sd"), image(24, 40)
    cross, records = seen(pipe, picture)
    start, ends = mean_on_finest(cross), []
    for record in records:
        maps, shares = oracle.dense_maps(record), oracle.head_weights(record, "lambda2")
        chain = sum(w * m for w, m in zip(shares, maps, strict=True))
        row = F.interpolate(start[None, None], record.grid, mode="area").flatten()
        row = row / row.sum()
        for _ in range(n - 1):
            row = oracle.fast_step(row, chain, direction)
        ends.append(row.reshape(record.grid))
    found = segment(pipe, picture, ["dog"], CAPTION, n=n, direction=direction, **CHANGES)
    torch.testing.assert_close(found.heats[0].double(), mean_on_finest(ends), rtol=0, atol=1e-6)


def animated_records(pipe):
    """Cross-attention to the word by layer, of the prompt's frames, and their self-attention."""

    class Frames(Layers):
        def add_cross(self, call):
            self.calls.append((call.q.double() @ call.k.double().mT * call.scale).softmax(-1)[-3:].mean(1))

    layers, given = Frames(), {"num_inference_steps": 1, "height": 32, "width": 48, "num_frames": 3}
    with layers.watching(pipe.unet), capture(pipe.unet, "all") as records:
        pipe(["a big dog"], generator=torch.Generator().manual_seed(0), **given)
    grids = {one.grid[0] * one.grid[1]: one.grid for one in records}
    return [one[..., DOG].sum(-1).unflatten(-1, grids[one.shape[1]]) for one in layers.calls], list(records)


def frames_on_finest(heats):
    """Frame by frame, of the same number each."""
    return torch.stack([mean_on_finest(frame) for frame in zip(*heats, strict=True)])


def test_the_frames_of_a_video_are_bounced_each_by_itself():
    text = {"text_encoder": seeded(clip), "tokenizer": tokenizer(77)}
    pipe = animated(d.AnimateDiffPipeline, **text)
    cross, records = animated_records(pipe)
    start, ends = frames_on_finest(cross), []
    for record in records:
        rows = F.interpolate(start[:, None], record.grid, mode="area").flatten(1)
        rows, own = rows / rows.sum(), []
        for i, row in enumerate(rows):
            frame = record.select(i - 3)
            maps, shares = oracle.dense_maps(frame), oracle.head_weights(frame, "lambda2")
            chain = sum(w * m for w, m in zip(shares, maps, strict=True))
            own.append(oracle.fast_step(row, chain, "incoming").reshape(record.grid))
        ends.append(torch.stack(own))
    request = Generate("a big dog", 1, height=32, width=48, frames=3)
    column, bounced = (
        segment(pipe, request, ["dog"], method=method, lambda2_tol=1e-9)
        for method in ("column", "image-bounce")
    )
    assert bounced.heats.shape == (1, 3, 16, 24) and bounced.size == (3, 32, 48)
    torch.testing.assert_close(column.heats[0].double(), start, rtol=0, atol=1e-6)
    torch.testing.assert_close(bounced.heats[0].double(), frames_on_finest(ends), rtol=0, atol=1e-6)


def test_one_bounce_is_the_start_and_rows_do_not_exist():
    pipe = pipeline("sd")
    one, column = (
        segment(pipe, image(32, 32), ["dog"], CAPTION, **CHANGES, **more).heats
        for more in ({"n": 1}, {"method": "column"})
    )
    assert torch.equal(one, column)
    with pytest.raises(UnsupportedError, match="row needs text and image in one map"):
        segment(pipe, image(32, 32), ["dog"], CAPTION, method="row")
    with pytest.raises(UnsupportedError, match="daam reads cross-attention, which FluxPipeline lacks"):
        segment(pipeline("flux"), image(32, 32), ["dog"], CAPTION, method="daam")


@pytest.mark.parametrize("n", [1, 3])
def test_a_bounce_within_the_image_goes_on_to_who_attends(n):
    """After cross-attention all tokens are the image's, so that it is the incoming bounce."""
    pipe, picture = pipeline("sd"), image(24, 40)
    found, other = (
        segment(pipe, picture, ["dog"], CAPTION, n=n, **own, **CHANGES)
        for own in ({}, {"method": "bounce", "direction": "incoming"})
    )
    assert torch.equal(found.heats, other.heats)
