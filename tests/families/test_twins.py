"""Where the tokens are in FLUX's twins and the families after them, by what changes in the first layer.

Each network gets what its own pipeline gives it, at a size that is not square.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor, no_grad, randn

from sag.call import Given
from tests.capture.helpers import Spy
from tests.matrix.building import run
from tests.matrix.twins import TWIN_ROWS
from tests.tiny_models import Call
from tokenrank_guidance.capture import AttentionTap, capture
from tokenrank_guidance.families.registry import calling_of

pytestmark = pytest.mark.usefixtures("no_gradients")


@dataclass(frozen=True)
class Where:
    """A pipeline's `size` for a `grid` of tokens, `side` latent pixels each; `pack` is diffusers' packing.

    `layer` is the first that attends; `text` says whether its map holds the prompt's tokens.
    """

    size: tuple[int, int]
    grid: tuple[int, int]
    side: int
    layer: str = "transformer_blocks.0.attn"
    pack: Callable[[Any, Tensor], Tensor] = lambda pipe, latents: latents
    text: bool = True


def squares(pipe: Any, latents: Tensor) -> Tensor:
    return pipe._pack_latents(latents, *latents.shape)


def pixels(pipe: Any, latents: Tensor) -> Tensor:
    return pipe._pack_latents_no_patch(latents, *latents.shape)


def one_frame(pipe: Any, latents: Tensor) -> Tensor:
    return latents.unsqueeze(2)


PACKED = Where((24, 40), (6, 10), 2, pack=squares)
IMAGE = Where((24, 40), (6, 10), 2)
FIBO = Where((96, 160), (6, 10), 1, pack=pixels)
CASES = {
    "Chroma": PACKED,
    "OvisImage": PACKED,
    "LongCatImage": PACKED,
    "Bria": PACKED,
    "BriaFibo": FIBO,
    "BriaFiboEdit": FIBO,
    "BriaFibo2": Where((24, 40), (6, 10), 2, "noise_refiner.0.attention", text=False),
    "BriaFibo2, reference image": Where((24, 40), (6, 10), 2, "noise_refiner.0.attention", text=False),
    "CogView4": Where((32, 48), (8, 12), 2, "transformer_blocks.0.attn1"),
    "CogView3Plus": Where((32, 48), (8, 12), 2, "transformer_blocks.0.attn1"),
    "PRX": Where((24, 40), (6, 10), 2, "blocks.0.attention", text=False),
    "HunyuanImage": IMAGE,
    "HunyuanImageRefiner": Where((24, 40), (6, 10), 2, pack=one_frame),
    "Krea2": PACKED,
}


@cache
def given(name: str) -> tuple[Any, dict[str, Any]]:
    """The pipeline, and what it gives its network in the first call."""
    row, (height, width) = TWIN_ROWS[name], CASES[name].size
    pipe, calls = row.build(), []

    def keep(module: Any, args: tuple, kwargs: dict[str, Any]) -> None:
        calls.append(Given.take(args, kwargs).named(module))

    with pipe.transformer.register_forward_pre_hook(keep, with_kwargs=True):
        run(pipe, row.arguments(Call(cfg=False, steps=1)) | {"height": height, "width": width})
    return pipe, calls[0]


def recorded(pipe: Any, inputs: dict[str, Any], layer: str) -> Any:
    with capture(pipe.transformer, layer) as maps:
        pipe.transformer(**inputs)
    return maps[-1]


def added(latents: Tensor, change: Tensor) -> Tensor:
    """The change in what is noisy: a condition's channels or a reference image's tokens may follow."""
    changed = latents.clone()
    changed[tuple(map(slice, change.shape))] += change
    return changed


def noisy_channels(pipe: Any, inputs: dict[str, Any], where: Where) -> int:
    output = pipe.transformer(**inputs | {"return_dict": False})[0]
    return output.shape[1] if output.ndim > 3 else output.shape[-1] // where.side**2


def image_of(pipe: Any, inputs: dict[str, Any], where: Where) -> Tensor:
    height, width = (where.side * side for side in where.grid)
    return torch.zeros(1, noisy_channels(pipe, inputs, where), height, width)


@pytest.mark.parametrize("name", CASES)
def test_a_latent_pixel_changes_the_token_that_we_say(name):
    where, (pipe, inputs) = CASES[name], given(name)
    row, column = 4, 7
    image = image_of(pipe, inputs, where)
    image[..., where.side * row, where.side * column] = 1
    other = inputs | {"hidden_states": added(inputs["hidden_states"], where.pack(pipe, image))}
    before, after = (recorded(pipe, one, where.layer) for one in (inputs, other))
    changed = (before.q != after.q).flatten(0, 1).any(-1).any(0).nonzero().flatten().tolist()
    assert before.grid == where.grid
    assert changed == [range(before.tokens)[before.image][row * where.grid[1] + column]]


@pytest.mark.parametrize("name", [name for name, where in CASES.items() if where.text])
def test_the_prompt_changes_the_tokens_that_we_say_are_its(name):
    where, (pipe, inputs) = CASES[name], given(name)
    text = inputs["encoder_hidden_states"]
    other = inputs | {"encoder_hidden_states": text + randn(text.shape[-1:])}
    before, after = (recorded(pipe, one, where.layer) for one in (inputs, other))
    changed = set((before.q != after.q).flatten(0, 1).any(-1).any(0).nonzero().flatten().tolist())
    of_text = set(range(before.tokens)[before.text])
    assert changed <= of_text
    if inputs.get("encoder_hidden_states_2") is None:
        assert changed == of_text
    assert not of_text & set(range(before.tokens)[before.image])


@pytest.mark.parametrize("name", CASES)
def test_our_map_gives_the_layers_own_output(name):
    """For keys of a prompt beside the image's own, the rest of each row normalised again."""
    pipe, inputs = given(name)
    with Spy() as spy, capture(pipe.transformer, "all") as maps:
        pipe.transformer(**inputs)
    assert {record.grid for record in maps} == {CASES[name].grid}
    for record in maps:
        seen = next(call for call in spy.calls if torch.equal(record.q, call["query"]))
        beside = seen["key"].shape[2] - record.tokens
        if beside == 0:
            torch.testing.assert_close(record.maps() @ seen["value"], seen["output"], rtol=0, atol=1e-5)
            continue
        logits = seen["query"] @ seen["key"].mT * record.scale
        mask = seen["attn_mask"]
        whole = logits.masked_fill(~mask, -torch.inf).softmax(-1) if mask is not None else logits.softmax(-1)
        own = whole[..., beside:] / whole[..., beside:].sum(-1, keepdim=True)
        torch.testing.assert_close(record.maps(), own, rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", CASES)
def test_an_edit_of_the_image_is_the_pipelines_own_packing(name):
    where, (pipe, inputs) = CASES[name], given(name)
    image = image_of(pipe, inputs, where)
    image, weights = randn(image.shape), randn(image.shape)
    packed = where.pack(pipe, image)
    edited = calling_of(pipe.transformer).edit(packed, where.grid, lambda latents: latents * weights)
    torch.testing.assert_close(edited, where.pack(pipe, image * weights), rtol=0, atol=0)


def test_fibo_2s_layers_hold_the_prompts_learned_tokens_first():
    pipe, inputs = given("BriaFibo2, reference image")
    text = inputs["encoder_hidden_states"]
    other = inputs | {"encoder_hidden_states": text + randn(text.shape[-1:])}
    before, after = (recorded(pipe, one, "layers.0.attention") for one in (inputs, other))
    changed = (before.q != after.q).flatten(0, 1).any(-1).any(0).nonzero().flatten().tolist()
    assert changed == list(range(before.tokens)[before.text])
    assert before.image == slice(before.text.stop, before.text.stop + 60)  # six rows of ten
    assert before.tokens > before.image.stop


def test_fibo_2s_prompts_of_unequal_length_come_after_the_image():
    """The shorter one's missing tokens are masked; each image's map is what it is alone."""
    pipe, inputs = given("BriaFibo2")
    short = torch.arange(inputs["encoder_hidden_states"].shape[2])[None] < 5
    both = {
        "hidden_states": torch.cat([inputs["hidden_states"]] * 2),
        "timestep": torch.cat([inputs["timestep"]] * 2),
        "encoder_hidden_states": torch.cat([inputs["encoder_hidden_states"]] * 2),
        "encoder_attention_mask": torch.cat([torch.ones_like(short), short]),
    }
    record = recorded(pipe, both, "layers.0.attention")
    assert (record.image, record.text) == (slice(0, 60), slice(60, record.tokens))
    for row in range(2):
        alone = {key: value[row : row + 1] for key, value in both.items()}
        one = recorded(pipe, alone, "layers.0.attention")
        gists = one.image.start
        order = [*range(gists, one.tokens), *range(gists)]
        own = record.select(row).maps()
        torch.testing.assert_close(
            own[..., : one.tokens, : one.tokens], one.maps()[..., order, :][..., order], rtol=0, atol=1e-5
        )
        assert (own[..., one.tokens :] == 0).all()


@pytest.mark.parametrize("name", ["BriaFibo2", "HunyuanImage", "Krea2"])
def test_layers_that_read_the_prompt_alone_are_no_maps_of_an_image(name):
    pipe, _ = given(name)
    layers = AttentionTap(pipe.transformer, "all").layers
    assert {layer.partition(".")[0] for layer in layers} <= {
        *("noise_refiner", "layers", "transformer_blocks", "single_transformer_blocks"),
    }
    assert not [layer for layer in layers if "cross" in layer]


@no_grad()
def test_several_frames_of_hunyuan_image_are_no_image():
    pipe, inputs = given("HunyuanImageRefiner")
    calling = calling_of(pipe.transformer)
    frames = inputs | {"hidden_states": inputs["hidden_states"].repeat(1, 1, 2, 1, 1)}
    assert calling.refused(pipe.transformer, inputs) == ""
    assert "several frames at once" in calling.refused(pipe.transformer, frames)
    assert recorded(pipe, frames, "transformer_blocks.0.attn").grid is None
