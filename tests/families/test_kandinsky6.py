"""Kandinsky 6: its video's tokens and maps, the picture that a video may start with, and its sound."""

import pytest
import torch

from sag import SelfAttentionGuidance
from tests.matrix.building import seeded
from tests.matrix.rows import ROWS, run
from tests.tiny_kandinsky6 import kandinsky6
from tests.tiny_models import Call
from tokenrank_guidance import capture
from tokenrank_guidance.families.registry import tokens_of

FRAMES, SIDE = 3, 16


def normal(*shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(3))


def given():
    return {
        "hidden_states": normal(1, FRAMES, SIDE, SIDE, 9),
        "audio_hidden_states": normal(1, 5, 4),
        "encoder_hidden_states": normal(1, 7, 16),
        "pooled_projections": normal(1, 16),
        "timestep": torch.tensor([500.0]),
    }


@torch.no_grad()
def record(model, inputs):
    """The first layer's, and what that layer was given."""
    layer, seen = model.visual_transformer_blocks[0].video_dec_block.self_attention, []
    handle = layer.register_forward_pre_hook(
        lambda _, args, named: seen.append((args[0], named["rotary_emb"])), with_kwargs=True
    )
    with capture(model, layers=0) as maps:
        model(**inputs, return_dict=False)
    handle.remove()
    return maps[-1], layer, seen[0]


def test_the_layers_are_those_of_the_video():
    kinds = tokens_of(seeded(kandinsky6)).attention(seeded(kandinsky6))
    own = [name for name, is_self in kinds.items() if is_self]
    assert own == [f"visual_transformer_blocks.{i}.video_dec_block.self_attention" for i in range(3)]


def test_the_token_of_a_patch_is_where_it_is_said():
    model, inputs = seeded(kandinsky6), given()
    before, _, _ = record(model, inputs)
    inputs["hidden_states"][:, 1, 4:6, 6:8] += 1
    after, _, _ = record(model, inputs)
    assert (before.grid, before.image) == ((3, 8, 8), slice(0, 192))
    moved = [(a - b).abs().amax((0, 1, 3)) > 0 for a, b in ((before.q, after.q), (before.k, after.k))]
    assert all(where.nonzero().flatten().tolist() == [(1 * 8 + 2) * 8 + 3] for where in moved)


@torch.no_grad()
def test_the_map_is_the_layers_own():
    """By its weights, and the matrices by which places turn pairs of numbers."""
    found, layer, (states, places) = record(seeded(kandinsky6), given())

    def heads(made, norm):
        pairs = norm(made[0].unflatten(-1, (layer.num_heads, -1))).unflatten(-1, (-1, 2))
        return torch.einsum("npij,nhpj->hnpi", places[:, 0], pairs).flatten(-2)

    queries = heads(layer.to_query(states), layer.query_norm)
    keys = heads(layer.to_key(states), layer.key_norm)
    for head, (q, k) in enumerate(zip(queries, keys, strict=True)):
        weights = torch.exp(q @ k.T / q.shape[1] ** 0.5)
        torch.testing.assert_close(
            found.maps()[0, head], weights / weights.sum(1, keepdim=True), rtol=1e-4, atol=1e-6
        )


def test_a_given_picture_is_neither_blurred_nor_moved():
    row = ROWS["Kandinsky6TI2VA, first frame"]
    pipe, arguments = row.build(), row.arguments(Call(steps=2, cfg=False))
    calls = []

    def keep(_, args, named, made):
        calls.append((named, made[0]))

    with SelfAttentionGuidance()(pipe) as guidance:
        handle = pipe.transformer.register_forward_hook(keep, with_kwargs=True)
        run(pipe, arguments)
        handle.remove()
    assert all(step.mask.shape == (1, FRAMES + 1, 8, 8) for step in guidance.steps)
    assert all(step.mask[:, :-1].any() and not step.mask[:, -1].any() for step in guidance.steps)
    (extra, _), (main, made) = calls[-2:]  # of the first step all is noise
    with torch.no_grad():
        plain = pipe.transformer(**main)[0]
    for one, other in ((extra["hidden_states"], main["hidden_states"]), (made, plain)):
        assert torch.equal(one[:, -1], other[:, -1]) and not torch.equal(one[:, :-1], other[:, :-1])


@pytest.mark.parametrize("silent", [False, True])
def test_its_sound_follows_the_guided_video(silent):
    row = ROWS["Kandinsky6TI2VA"]
    pipe, arguments = row.build(), row.arguments(Call(steps=3)) | {"sample_audio": not silent}

    def sampled():
        made = pipe(**arguments, generator=torch.Generator().manual_seed(0))
        return made.frames, made.audio

    plain = sampled()
    with SelfAttentionGuidance(sag_scale=0)(pipe):
        assert all(a is b is None or torch.equal(a, b) for a, b in zip(sampled(), plain, strict=True))
    with SelfAttentionGuidance()(pipe):
        video, sound = sampled()
    assert not torch.equal(video, plain[0])
    assert sound is plain[1] is None if silent else not torch.equal(sound, plain[1])
