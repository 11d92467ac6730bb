"""Families of videos: where their tokens are, which latents are given, and what a step's clean video is."""

import copy
from contextlib import ExitStack

import diffusers as d
import pytest
import torch

import sag.degraded
from sag import SelfAttentionGuidance
from tests import tiny_ltx2
from tests import tiny_videos as tiny
from tests.matrix.building import seeded
from tests.matrix.rows import ROWS, run
from tests.matrix.video import VIDEO_ROWS, wan
from tests.sag.helpers import traces
from tests.tiny_models import Call, sharpen
from tokenrank_guidance import capture
from tokenrank_guidance.components import denoiser_of, denoisers_of

pytestmark = pytest.mark.filterwarnings("ignore:In CPU autocast")  # Mochi's
FRAMES, SIDE = 4, 8
TOKEN = (1, 2, 3)


def normal(*shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(3))


def volume(**more):
    given = {"hidden_states": normal(1, 4, FRAMES, SIDE, SIDE), "timestep": torch.tensor([500.0])}
    return given | {"encoder_hidden_states": normal(1, 7, 16)} | more


def frames_first():
    return volume(hidden_states=normal(1, FRAMES, 4, SIDE, SIDE))


def packed(**more):
    given = volume(hidden_states=normal(1, FRAMES * SIDE * SIDE, 4), encoder_attention_mask=torch.ones(1, 7))
    return given | {"num_frames": FRAMES, "height": SIDE, "width": SIDE} | more


def beside_pictures():
    """A picture of a later frame comes before the video's tokens."""
    times, rows, columns = torch.meshgrid(*map(torch.arange, (FRAMES, SIDE, SIDE)), indexing="ij")
    video = torch.stack([times, 32 * rows, 32 * columns]).flatten(1).float()
    picture = video[:, : SIDE * SIDE] + torch.tensor([[2.5], [0.0], [0.0]])
    coordinates = torch.cat([picture, video], 1)[None]
    given = packed(hidden_states=normal(1, coordinates.shape[-1], 4), video_coords=coordinates)
    return given | dict.fromkeys(("num_frames", "height", "width"))


def with_sound():
    """A picture's tokens come after the video's."""
    tokens = (FRAMES + 1) * SIDE * SIDE
    given = packed(hidden_states=normal(1, tokens, 4), video_coords=normal(1, 3, tokens, 2))
    sound = {"hidden_states": normal(1, 5, 4), "encoder_hidden_states": given["encoder_hidden_states"]}
    given |= {f"audio_{name}": value for name, value in sound.items()}
    return given | {"sigma": given["timestep"], "audio_num_frames": 5}


def mochi():
    """Each video's words are cut to their own number."""
    mask = torch.arange(7)[None] < torch.tensor([[5], [3]])
    given = {"hidden_states": normal(2, 4, FRAMES, SIDE, SIDE), "timestep": torch.tensor([500.0, 500.0])}
    return given | {"encoder_hidden_states": normal(2, 7, 16), "encoder_attention_mask": mask}


def cosmos():
    mask = torch.zeros(1, 1, FRAMES, SIDE, SIDE)
    return volume(condition_mask=mask, padding_mask=torch.zeros(1, 1, 16, 16), timestep=torch.tensor([0.5]))


def hunyuan():
    mask = (torch.arange(7) < 5)[None].long()
    return volume(encoder_attention_mask=mask, pooled_projections=normal(1, 16), guidance=torch.ones(1))


def volume_patch(sample):
    sample[:, :, 1, 4:6, 6:8] += 1


def packed_token(sample):
    sample[:, -FRAMES * SIDE * SIDE + (1 * SIDE + 2) * SIDE + 3] += 1


def early_token(sample):
    sample[:, (1 * SIDE + 2) * SIDE + 3] += 1


def first_patch(sample):
    sample[:, 1, :, 4:6, 6:8] += 1


def later_frames(sample):
    sample[:, 2:4, :, 4:6, 6:8] += 1


VOLUME = (FRAMES, SIDE // 2, SIDE // 2)
PACKED = (FRAMES, SIDE, SIDE)
ROTATED = {"patch_size_t": 2, "patch_bias": False, "use_rotary_positional_embeddings": True}
# How to build a network, its inputs, how to change the latents of one token, and the grid.
NETWORKS = {
    "wan": (tiny.wan, volume, volume_patch, VOLUME),
    "skyreels": (tiny.skyreels, volume, volume_patch, VOLUME),
    "ltx": (tiny.ltx, packed, packed_token, PACKED),
    "ltx, beside pictures": (tiny.ltx, beside_pictures, packed_token, PACKED),
    "ltx2": (tiny_ltx2.ltx2, with_sound, early_token, PACKED),
    "cogvideox": (tiny.cogvideox, frames_first, first_patch, VOLUME),
    "cogvideox 1.5": (lambda: tiny.cogvideox(**ROTATED), frames_first, later_frames, (2, 4, 4)),
    "hunyuan": (tiny.hunyuan_video, hunyuan, volume_patch, VOLUME),
    "mochi": (tiny.mochi, mochi, volume_patch, VOLUME),
    "cosmos": (tiny.cosmos, cosmos, volume_patch, VOLUME),
    "allegro": (tiny.allegro, volume, volume_patch, VOLUME),
}


def first_record(model, inputs, watch=()):
    """The first layer's record, and what its projections named in `watch` were given and made."""
    from tokenrank_guidance.families.registry import tokens_of

    layer = next(iter(tokens_of(model).attention(model)))
    seen = {}
    with ExitStack() as stack:
        for name in watch:
            part = getattr(model.get_submodule(layer), name, None)
            if part is not None:
                hook = part.register_forward_hook(
                    lambda _, args, made, name=name: seen.update({name: (args[0], made)})
                )
                stack.callback(hook.remove)
        maps = stack.enter_context(capture(model, layers=layer))
        with torch.no_grad():
            model(**inputs, return_dict=False)
    return maps[-1], seen


@pytest.mark.parametrize("name", NETWORKS)
def test_the_token_of_a_patch_is_where_it_is_said(name):
    """Changing the latents of one token changes the first layer's queries and keys of no other."""
    build, given, change, grid = NETWORKS[name]
    model, inputs = seeded(build), given()
    before, _ = first_record(model, inputs)
    change(inputs["hidden_states"])
    after, _ = first_record(model, inputs)
    assert before.grid == grid
    moved = [(a - b).abs().amax((0, 1, 3)) > 0 for a, b in ((before.q, after.q), (before.k, after.k))]
    time, row, column = TOKEN
    place = before.image.start + (time * grid[1] + row) * grid[2] + column
    assert all(where.nonzero().flatten().tolist() == [place] for where in moved)


WHOLE = [name for name in NETWORKS if name != "mochi"]  # whose map holds the video's tokens alone


@pytest.mark.parametrize("name", WHOLE)
def test_the_map_is_the_layers_own(name):
    build, given, _, _ = NETWORKS[name]
    model = seeded(build)
    record, seen = first_record(model, given(), ("to_v", "add_v_proj"))
    layer = model.get_submodule(record.module)
    outputs = {}
    hook = layer.to_out[0].register_forward_hook(lambda _, args, made: outputs.update(out=args[0]))
    with torch.no_grad():
        model(**given(), return_dict=False)
    hook.remove()
    values = torch.cat([seen[name][1] for name in ("to_v", "add_v_proj") if name in seen], 1)
    values = values.unflatten(-1, (record.heads, -1)).transpose(1, 2)
    made = (record.maps() @ values).transpose(1, 2).flatten(2)
    torch.testing.assert_close(made[:, : outputs["out"].shape[1]], outputs["out"], rtol=1e-4, atol=1e-5)


def test_each_video_of_mochi_is_read_with_its_own_words():
    """Each in its own call, of which padding makes one record."""
    model, given = seeded(tiny.mochi), mochi()
    record, seen = first_record(model, given, ("norm_q", "norm_k"))
    lengths = given["encoder_attention_mask"].sum(1).tolist()
    assert record.batch == 2 and record.tokens == FRAMES * 16 + max(lengths)
    video = record.restrict("image")
    assert video.tokens == FRAMES * 16 and video.mask is None
    for row in (0, 1):
        own = {name: value[row : row + 1] for name, value in given.items()}
        alone, _ = first_record(model, own)
        one = record.select(row)
        assert one.tokens == alone.tokens == FRAMES * 16 + lengths[row] and one.mask is None
        torch.testing.assert_close(one.maps(), alone.maps(), rtol=1e-4, atol=1e-6)
        torch.testing.assert_close(video.maps()[row], alone.restrict("image").maps()[0], rtol=1e-4, atol=1e-6)
        padding = record.maps()[row, ..., one.tokens :]
        assert not padding.any()
    lengths = video.q.norm(dim=-1), seen["norm_q"][1].transpose(1, 2).norm(dim=-1)
    torch.testing.assert_close(*lengths)  # positions turn queries, and keep their length


HELD = [
    "WanImageToVideo, expand_timesteps",
    "LTXImageToVideo",
    "LTXCondition, first frame",
    "LTX2ImageToVideo",
    "LTX2Condition, first and later frame",
    "HunyuanVideoImageToVideo, token_replace",
]


@pytest.mark.parametrize("name", HELD)
def test_a_given_first_frame_is_neither_blurred_nor_moved(name):
    row = ROWS[name]
    pipe, arguments = row.build(), row.arguments(Call(steps=2, cfg=False))
    with SelfAttentionGuidance()(pipe) as guidance:
        guided = run(pipe, arguments)
    mask = guidance.steps[0].mask
    assert mask.shape[1] == 3
    assert not mask[:, 0].any() and mask[:, 1:].any()
    plain = run(pipe, arguments)
    video = guided.unflatten(1, (3, -1)).transpose(1, 2) if guided.ndim == 3 else guided
    other = plain.unflatten(1, (3, -1)).transpose(1, 2) if plain.ndim == 3 else plain
    first, rest = (video - other).abs().amax((0, 1, 3, 4) if video.ndim == 5 else (0, 1, 3))[[0, 1]]
    assert rest > 0 and (first == 0 or name.startswith("Wan"))  # Wan puts its picture in anew at every step


def own_clean(scheduler, step, output, sample):
    """The scheduler's own x̂₀ at the step that it is at."""
    scheduler = copy.deepcopy(scheduler)
    time = scheduler.timesteps[0]
    if hasattr(scheduler, "convert_model_output"):
        scheduler._step_index = scheduler.step_index or 0
        return scheduler.convert_model_output(output, sample=sample)
    if hasattr(scheduler, "alphas_cumprod"):
        return step(scheduler, output, time, sample).pred_original_sample
    scheduler.sigmas[1:] = 0  # the step ends where there is no noise
    return step(scheduler, output, time, sample, return_dict=False)[0]


CLEAN = ["Wan", "LTX", "LTXCondition", "LTX2", "CogVideoX", "HunyuanVideo", "Allegro", "Helios"]
CLEAN += ["Kandinsky6TI2VA"]


@pytest.mark.parametrize("name", CLEAN)
def test_the_clean_video_is_the_schedulers_own(name, monkeypatch):
    row = ROWS[name]
    pipe, arguments = row.build(), row.arguments(Call(steps=3, cfg=False))
    found, own, split = [], [], sag.degraded._split
    monkeypatch.setattr(
        sag.degraded, "_split", lambda call, level: found.append(split(call, level)) or found[-1]
    )
    step = type(pipe.scheduler).step

    def watched(self, model_output, timestep, sample, **options):
        if not own:
            sign = -1 if "per_token_timesteps" in options else 1
            own.append(own_clean(self, step, sign * model_output, sample))
        return step(self, model_output, timestep, sample, **options)

    monkeypatch.setattr(type(pipe.scheduler), "step", watched)
    with SelfAttentionGuidance(sag_scale=1e-9)(pipe):
        run(pipe, arguments)
    torch.testing.assert_close(found[0][0], own[0], rtol=1e-4, atol=1e-4)


def test_steps_are_found_where_the_scheduler_rounds_its_timesteps_down():
    """Cosmos gives its denoiser sigmas, whose timesteps UniPC rounds down: 9 where the time is 9.9."""
    pipe = ROWS["Cosmos2_5_PredictBase"].build()
    karras = {"use_karras_sigmas": True, "sigma_min": 0.01, "sigma_max": 200.0}
    pipe.scheduler = type(pipe.scheduler).from_config(pipe.scheduler.config, **karras)
    with SelfAttentionGuidance()(pipe) as guidance:
        run(pipe, ROWS["Cosmos2_5_PredictBase"].arguments(Call(steps=4, cfg=False)))
    assert [step.timestep for step in guidance.steps] == [995, 963, 593, 9]


def test_two_denoisers_are_guided_each_in_its_part():
    """Wan 2.2: one network for much noise, one for little; hooks go on both and come off both."""
    second = seeded(tiny.wan)
    sharpen(second)
    pipe = wan(d.WanPipeline, transformer_2=second, boundary_ratio=0.8)
    arguments = VIDEO_ROWS["Wan"].arguments(Call(steps=4)) | {"guidance_scale_2": 3.0}
    plain = run(pipe, arguments)
    before = [traces(model) for model in denoisers_of(pipe)]
    assert len(before) == 2 and denoiser_of(pipe) is pipe.transformer
    called = []
    with SelfAttentionGuidance()(pipe) as guidance, ExitStack() as stack:
        for i, model in enumerate(denoisers_of(pipe)):
            hook = model.register_forward_hook(lambda *_, i=i: called.append(i))
            stack.callback(hook.remove)
        guided = run(pipe, arguments)
    # Three calls a step: two of the pipeline's and one more of the network whose turn it is. All noise: two.
    counts = [2 + (not step.noise_alone) for step in guidance.steps]
    turns = [called[sum(counts[:step])] for step in range(4)]
    assert called == [turn for turn, count in zip(turns, counts, strict=True) for _ in range(count)]
    assert {0, 1} == set(turns)
    assert [step.number for step in guidance.steps] == [0, 1, 2, 3]
    assert not torch.equal(guided, plain) and torch.isfinite(guided).all()
    assert [traces(model) for model in denoisers_of(pipe)] == before
    with SelfAttentionGuidance(sag_scale=0)(pipe):
        assert torch.equal(run(pipe, arguments), plain)
