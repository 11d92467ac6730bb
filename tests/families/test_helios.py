"""Helios: which tokens are drawn, its maps, its clean video, and chunks one after another."""

import pytest
import torch

from sag import SelfAttentionGuidance
from sag.noise import noise_level, sampling_step
from tests.matrix.building import seeded
from tests.matrix.rows import ROWS, run
from tests.sag.helpers import count_calls, traces
from tests.tiny_helios import helios, one_stage
from tests.tiny_models import Call
from tokenrank_guidance import UnsupportedError, capture

FRAMES, SIDE = 3, 16
GRID = (3, 8, 8)
PLACE = (1, 2, 3)
HISTORY = {"short": (2, 128), "mid": (2, 16), "long": (16, 16)}  # frames of latents, and tokens of them


def normal(*shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(3))


def given(history=True):
    inputs = {
        "hidden_states": normal(1, 4, FRAMES, SIDE, SIDE),
        "timestep": torch.tensor([500.0]),
        "encoder_hidden_states": normal(1, 7, 16),
        "indices_hidden_states": torch.arange(20, 20 + FRAMES)[None],
    }
    first = 0
    for name in reversed(HISTORY) if history else ():
        frames = HISTORY[name][0]
        inputs[f"latents_history_{name}"] = normal(1, 4, frames, SIDE, SIDE)
        inputs[f"indices_latents_history_{name}"] = torch.arange(first, first + frames)[None]
        first += frames
    return inputs


@torch.no_grad()
def record(model, inputs):
    """The first layer's, and what that layer was given."""
    layer, seen = model.blocks[0].attn1, []
    handle = layer.register_forward_pre_hook(lambda _, args: seen.append(args))
    with capture(model, layers=0) as maps:
        model(**inputs, return_dict=False)
    handle.remove()
    return maps[-1], layer, seen[0]


@pytest.mark.parametrize("history", [False, True])
def test_the_tokens_that_are_drawn_come_after_those_of_before(history):
    """Changing the latents of one changes the queries and keys of no other."""
    model, inputs = seeded(helios), given(history)
    before, _, _ = record(model, inputs)
    inputs["hidden_states"][:, :, 1, 4:6, 6:8] += 1
    after, _, _ = record(model, inputs)
    start = sum(tokens for _, tokens in HISTORY.values()) if history else 0
    assert (before.grid, before.image) == (GRID, slice(start, start + 192))
    moved = [(a - b).abs().amax((0, 1, 3)) > 0 for a, b in ((before.q, after.q), (before.k, after.k))]
    assert all(where.nonzero().flatten().tolist() == [start + (1 * 8 + 2) * 8 + 3] for where in moved)


@torch.no_grad()
def test_the_map_is_the_layers_own():
    """By its weights: places turn pairs of numbers as complex ones, and keys of before are longer."""
    found, layer, (states, _, _, places, own) = record(seeded(helios), given())
    cos, sin = places[0].chunk(2, -1)
    turn = torch.complex(cos[:, 0::2], sin[:, 1::2])

    def heads(made):
        pairs = torch.view_as_complex(made[0].unflatten(-1, (layer.heads, -1, 2)).contiguous())
        return torch.view_as_real(pairs * turn[:, None]).flatten(-2).unbind(1)

    queries = heads(layer.norm_q(layer.to_q(states)))
    keys = heads(layer.norm_k(layer.to_k(states)))
    assert own == 192 and len(states[0]) == 192 + 160
    for head, (q, k) in enumerate(zip(queries, keys, strict=True)):
        louder = 1 + 9 / (1 + torch.exp(-layer.history_key_scale[head]))
        k = torch.cat([k[:160] * louder, k[160:]])
        weights = torch.exp(q @ k.T / q.shape[1] ** 0.5)
        torch.testing.assert_close(
            found.maps()[0, head], weights / weights.sum(1, keepdim=True), rtol=1e-4, atol=1e-6
        )


def test_chunks_are_guided_one_by_one():
    """Each by a schedule of its own, beside what was drawn of the one before."""
    row = ROWS["Helios"]
    pipe, arguments = row.build(), row.arguments(Call(steps=2)) | {"num_frames": 10}
    plain = run(pipe, arguments)
    before = traces(pipe.transformer)
    assert plain.shape[2] == 2 * FRAMES
    with SelfAttentionGuidance(sag_scale=0)(pipe):
        assert torch.equal(run(pipe, arguments), plain)
    with SelfAttentionGuidance()(pipe) as guidance:
        guided, calls = count_calls(pipe.transformer, lambda: run(pipe, arguments))
    assert calls == 2 * (2 + 3)  # chunks, and calls: two of the pipeline's, and one more but for noise alone
    assert [step.number for step in guidance.steps] == [0, 1, 0, 1]
    assert all(step.mask.shape == (1, *GRID) for step in guidance.steps)
    assert all((guided - plain)[:, :, part].abs().max() > 0 for part in (slice(0, 3), slice(3, 6)))
    assert torch.isfinite(guided).all() and traces(pipe.transformer) == before


def test_stages_of_its_scheduler_are_refused():
    """As those of a pyramid, which lead to noisy videos."""
    scheduler = one_stage(stages=3, stage_range=[0, 1 / 3, 2 / 3, 1])
    scheduler.set_timesteps(2, stage_index=0, mu=1.0)
    step = sampling_step(scheduler, scheduler.timesteps[0].item())
    with pytest.raises(UnsupportedError, match="with HeliosScheduler with 3 stages: each of its stages"):
        noise_level(scheduler, step)
