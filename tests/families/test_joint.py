"""Where the tokens are in families whose image and text tokens share one map."""

import pytest
import torch
from torch import no_grad, randn

from tests import tiny_dits as dits
from tests.capture.helpers import Spy, seeded
from tokenrank_guidance.capture import AttentionTap, capture


def qwen_inputs(*shapes, text=5, batch=2):
    tokens = sum(frames * height * width for frames, height, width in shapes)
    return {
        "hidden_states": randn(batch, tokens, 16),
        "encoder_hidden_states": randn(batch, text, 16),
        "timestep": torch.full((batch,), 0.5),
        "img_shapes": [list(shapes)] * batch,
    }


@no_grad()
def test_qwen_image_puts_text_first_then_the_image_then_its_references():
    model = seeded(dits.qwen_image)
    with capture(model) as maps:
        model(**qwen_inputs((1, 4, 6), (1, 2, 3)))
    (record,) = maps
    assert (record.module, record.tokens) == ("transformer_blocks.1.attn", 35)
    assert (record.grid, record.text, record.image) == ((4, 6), slice(0, 5), slice(5, 29))


@no_grad()
def test_qwen_image_shapes_may_come_without_a_list_of_their_own():
    model, inputs = seeded(dits.qwen_image), qwen_inputs((1, 4, 6))
    with capture(model) as maps:
        model(**inputs | {"img_shapes": [(1, 4, 6)] * 2})
    assert maps[-1].grid == (4, 6)


@no_grad()
@pytest.mark.parametrize("layer", ["transformer_blocks.0.attn", "auto"])
def test_flux2_positions_have_four_columns_and_carry_references(layer):
    model = seeded(dits.flux2)
    own = torch.cartesian_prod(*map(torch.arange, (1, 4, 6, 1)))
    reference = torch.cartesian_prod(*map(torch.arange, (1, 2, 3, 1))) + torch.tensor([10, 0, 0, 0])
    with capture(model, layer) as maps:
        model(
            randn(2, 30, 16),
            randn(2, 5, 16),
            torch.full((2,), 0.5),
            torch.cat([own, reference])[None].expand(2, -1, -1),
            torch.zeros(2, 5, 4),
            guidance=torch.ones(2),
        )
    (record,) = maps
    assert record.module == ("single_transformer_blocks.0.attn" if layer == "auto" else layer)
    assert (record.tokens, record.grid, record.text) == (35, (4, 6), slice(0, 5))
    assert record.image == slice(5, 29)


@no_grad()
@pytest.mark.parametrize("layer", ["joint_transformer_blocks.0.attn", "auto"])
def test_auraflow_puts_registers_first_then_text_then_the_image(layer):
    model = seeded(dits.auraflow)
    with capture(model, layer) as maps:
        model(randn(2, 4, 8, 12), randn(2, 5, 32), torch.full((2,), 0.5))
    (record,) = maps
    assert record.module == ("single_transformer_blocks.0.attn" if layer == "auto" else layer)
    assert (record.tokens, record.grid) == (37, (4, 6))
    assert (record.registers, record.text, record.image) == (slice(0, 8), slice(8, 13), slice(13, 37))


def test_lumina_nexts_self_attention_is_taken_alone():
    model = seeded(dits.lumina_next)
    assert AttentionTap(model).layers == ("layers.1.attn1",)
    assert AttentionTap(model, "all").layers == tuple(f"layers.{i}.attn1" for i in range(3))


def test_hunyuan_dits_self_attention_is_taken_alone():
    model = seeded(dits.hunyuan)
    assert AttentionTap(model).layers == ("blocks.2.attn1",)
    assert AttentionTap(model, "all").layers == tuple(f"blocks.{i}.attn1" for i in range(4))
    with pytest.raises(ValueError, match="is cross-attention"), capture(model, "blocks.1.attn2"):
        pass


def lumina_inputs(*prompts, height=8, width=12):
    longest = max(prompts) + 2
    return {
        "hidden_states": randn(len(prompts), 4, height, width),
        "timestep": torch.full((len(prompts),), 0.5),
        "encoder_hidden_states": randn(len(prompts), longest, 16),
        "encoder_attention_mask": torch.tensor([[i < prompt for i in range(longest)] for prompt in prompts]),
    }


@no_grad()
def test_lumina_puts_prompts_without_padding_before_their_images():
    model = seeded(dits.lumina2)
    with capture(model, ["auto", "noise_refiner.0.attn"]) as maps:
        model(**lumina_inputs(5, 5))
    refiner, joint = sorted(maps, key=lambda record: record.tokens)
    assert (refiner.module, refiner.tokens, refiner.grid) == ("noise_refiner.0.attn", 24, (4, 6))
    assert (joint.module, joint.tokens, joint.grid) == ("layers.1.attn", 29, (4, 6))
    assert (joint.text, joint.image) == (slice(0, 5), slice(5, 29))


@no_grad()
def test_luminas_prompts_of_unequal_length_leave_each_image_its_own_map():
    model, inputs = seeded(dits.lumina2), lumina_inputs(5, 3)
    with capture(model) as maps:
        model(**inputs)
    (both,) = maps
    assert (both.tokens, both.grid, both.image, both.text) == (29, (4, 6), slice(0, 24), None)
    for row, prompt in enumerate((5, 3)):
        alone = {name: value[row : row + 1] for name, value in inputs.items()}
        with capture(model) as maps:
            model(**alone)
        wanted = maps[-1].maps()[:, :, prompt:, :]
        order = [*range(prompt, prompt + 24), *range(prompt)]
        found = both.select(row).maps()[:, :, :24]
        tokens = [*range(24), *range(29 - prompt, 29)]
        torch.testing.assert_close(found[..., tokens], wanted[..., order], rtol=0, atol=1e-5)
        assert (found[..., 24 : 29 - prompt] == 0).all()


def test_layers_that_refine_the_prompt_are_no_maps_of_an_image():
    assert all(not layer.startswith("context") for layer in AttentionTap(dits.lumina2(), "all").layers)


def kandinsky_inputs(height=12, width=16, batch=2):
    return {
        "sample": randn(batch, 4, height, width),
        "timestep": torch.tensor(10),
        "encoder_hidden_states": None,
        "added_cond_kwargs": {"image_embeds": randn(batch, 16)},
    }


@no_grad()
def test_keys_of_a_prompt_beside_an_images_own_are_left_out():
    """Softmax over the image's keys is the rest of each row, normalised again."""
    model = seeded(dits.kandinsky_unet)
    torch.manual_seed(0)  # of the inputs: whatever ran before
    with Spy() as spy, capture(model) as maps:
        model(**kandinsky_inputs())
    (record,) = maps
    assert (record.module, record.grid, record.tokens) == ("mid_block.attentions.0", (6, 8), 48)
    seen = next(call for call in spy.calls if torch.equal(record.q, call["query"]))
    prompt = seen["key"].shape[2] - 48
    assert prompt > 0
    whole = (seen["query"] @ seen["key"].mT * record.scale).softmax(-1)
    own = whole[..., prompt:] / whole[..., prompt:].sum(-1, keepdim=True)
    torch.testing.assert_close(record.maps(), own, rtol=0, atol=1e-6)


@no_grad()
def test_layers_with_keys_of_a_prompt_are_self_attention_as_the_others_are():
    model = seeded(dits.kandinsky_unet)
    with capture(model, "all") as maps:
        model(**kandinsky_inputs())
    assert len(maps) == len([m for m in model.modules() if hasattr(m, "set_processor")])
    assert {record.grid for record in maps} == {(6, 8)}


def kandinsky5_inputs(frames, text=5):
    return {
        "hidden_states": randn(2, frames, 8, 12, 4),
        "encoder_hidden_states": randn(2, text, 16),
        "timestep": torch.full((2,), 500.0),
        "pooled_projections": randn(2, 16),
        "visual_rope_pos": [torch.arange(frames), torch.arange(4), torch.arange(6)],
        "text_rope_pos": torch.arange(text),
    }


@no_grad()
@pytest.mark.parametrize(("frames", "grid"), [(1, (4, 6)), (2, (2, 4, 6))])
def test_kandinsky_5_has_the_grid_of_what_it_makes(frames, grid):
    model = seeded(dits.kandinsky5)
    assert all("visual" in layer and "self" in layer for layer in AttentionTap(model, "all").layers)
    with capture(model) as maps:
        model(**kandinsky5_inputs(frames))
    (record,) = maps
    assert record.module == "visual_transformer_blocks.1.self_attention"
    assert (record.tokens, record.grid) == (24 * frames, grid)


@no_grad()
def test_several_frames_have_no_grid():
    model = seeded(dits.qwen_image)
    with capture(model) as maps:
        model(**qwen_inputs((2, 3, 4)))
    assert (maps[-1].grid, maps[-1].image) == (None, slice(5, 29))


@no_grad()
def test_padding_of_the_text_is_masked_as_the_model_masks_it():
    model, inputs = seeded(dits.qwen_image), qwen_inputs((1, 4, 6))
    padded = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 0, 0, 0]])
    with Spy() as spy, capture(model) as maps:
        model(**inputs | {"encoder_hidden_states_mask": padded})
    seen = spy.calls[1]
    torch.testing.assert_close(maps[-1].maps() @ seen["value"], seen["output"], rtol=0, atol=1e-5)
    assert (maps[-1].maps()[1, :, :, 2:5] == 0).all()
