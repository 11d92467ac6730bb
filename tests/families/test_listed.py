"""Denoisers called in ways of their own: where tokens are, what rows of a call are, which sign and time."""

import pytest
import torch
from diffusers.models.transformers.transformer_glm_image import GlmImageKVCache
from torch import nn, no_grad, randn

from sag.call import Given, predicted
from tests import tiny_listed as tiny
from tests.capture.helpers import Spy, seeded
from tokenrank_guidance.capture import AttentionTap, capture
from tokenrank_guidance.families.registry import calling_of


def apart(model, *stacks):
    """A network whose layers of these stacks mix no tokens: attention's output is dropped."""
    for name, module in model.named_modules():
        if name.startswith(stacks) and name.endswith("to_out.0"):
            nn.init.zeros_(module.weight)
    return model


def z_model(*options):
    return apart(seeded(tiny.z_image, *options), "noise_refiner", "context_refiner", "siglip_refiner")


def z_inputs(*prompts, channels=4, height=12, width=20):
    g = torch.Generator().manual_seed(1)
    return {
        "x": [randn(channels, 1, height, width, generator=g) for _ in prompts],
        "t": torch.full((len(prompts),), 0.25),
        "cap_feats": [randn(tokens, 16, generator=g) for tokens in prompts],
    }


def omni_inputs(*prompts):
    """Two pictures before each image, one of them missing, with SigLIP's tokens of the first."""
    inputs, g = z_inputs(*prompts, channels=16), torch.Generator().manual_seed(2)
    seen = [[randn(3, 5, 16, generator=g), None, None] for _ in prompts]
    own = [[randn(16, 1, 8, 8, generator=g), None, image] for image in inputs["x"]]
    texts = [[text, text[:3], text[:4]] for text in inputs["cap_feats"]]
    noisy = [[0, 0, 1]] * len(prompts)
    return inputs | {"x": own, "cap_feats": texts, "siglip_feats": seen, "image_noise_mask": noisy}


@no_grad()
def moved(model, inputs, layer, change):
    """The record of a layer, and which of its tokens are others after `change`, for each row."""
    records = []
    for _ in range(2):
        with capture(model, layer) as maps:
            model(**inputs)
        records.append(maps[-1])
        change()
    before, after = records
    differs = (before.k - after.k).abs().amax((1, 3)) > 1e-6
    return before, [row.nonzero().flatten().tolist() for row in differs]


def add_to_patch(image, row, column):
    def change():
        image[..., 2 * row : 2 * row + 2, 2 * column : 2 * column + 2] += 1

    return change


@pytest.mark.parametrize("layer", ["noise_refiner.0.attention", "layers.0.attention"])
def test_z_images_tokens_come_first_row_by_row(layer):
    inputs = z_inputs(35, 9)
    record, tokens = moved(z_model(), inputs, layer, add_to_patch(inputs["x"][1], 2, 3))
    joint = layer.startswith("layers")
    assert (record.grid, record.image) == ((6, 10), slice(0, 60))
    assert record.text == (slice(64, 64 + 35) if joint else None)  # of the longer prompt
    assert record.tokens == (64 + 64 if joint else 64)
    assert tokens == [[], [2 * 10 + 3]]


def test_z_images_prompt_follows_the_padded_image():
    inputs = z_inputs(9, 9)

    def change():
        inputs["cap_feats"][0][4] += torch.linspace(-1, 1, 16)

    record, tokens = moved(z_model(), inputs, "layers.0.attention", change)
    assert (record.tokens, record.text) == (64 + 32, slice(64, 73))
    assert tokens == [[64 + 4], []]


@no_grad()
def test_z_images_maps_are_the_layers_own():
    """The shorter prompt of a batch is padded to the longer one, which no token attends to."""
    model = seeded(tiny.z_image)
    with Spy() as spy, capture(model, "layers.0.attention") as maps:
        model(**z_inputs(35, 9))
    seen = next(call for call in spy.calls if torch.equal(call["query"], maps[-1].q))
    torch.testing.assert_close(maps[-1].maps() @ seen["value"], seen["output"], rtol=0, atol=1e-5)
    assert (maps[-1].maps()[1, :, :, 96:] == 0).all()


@pytest.mark.parametrize("prompts", [(9, 9), (9, 35)])
@pytest.mark.parametrize("layer", ["noise_refiner.0.attention", "layers.0.attention"])
def test_omnis_image_is_the_last_of_its_pictures(layer, prompts):
    """Where prompts are of unequal length, each row begins with its image."""
    inputs = omni_inputs(*prompts)
    record, tokens = moved(z_model(16, 16), inputs, layer, add_to_patch(inputs["x"][1][2], 2, 3))
    before = 2 * 32 + (0 if layer.startswith("noise") else 3 * 32)
    first = 0 if len(set(prompts)) > 1 and layer.startswith("layers") else before
    assert (record.grid, record.image) == ((6, 10), slice(first, first + 60))
    assert tokens == [[], [first + 23]]


def test_layers_that_refine_prompts_or_pictures_are_no_maps_of_an_image():
    names = AttentionTap(tiny.z_image(16), "all").layers
    assert names == ("noise_refiner.0.attention", *(f"layers.{i}.attention" for i in range(3)))
    assert AttentionTap(tiny.z_image()).layers == ("layers.1.attention",)


def hidream_inputs(height=12, width=20, batch=2):
    g = torch.Generator().manual_seed(1)
    return {
        "hidden_states": randn(batch, 4, height, width, generator=g),
        "timesteps": torch.full((batch,), 500.0),
        "encoder_hidden_states_t5": randn(batch, 5, 32, generator=g),
        "encoder_hidden_states_llama3": randn(2, batch, 7, 16, generator=g),
        "pooled_embeds": randn(batch, 32, generator=g),
    }


@pytest.mark.parametrize(("width", "padded"), [(20, 64), (12, 36)])
def test_hidreams_image_comes_first_padded_where_it_is_no_square(width, padded):
    inputs, model = hidream_inputs(width=width), seeded(tiny.hidream)
    change = add_to_patch(inputs["hidden_states"], 2, 3)
    record, tokens = moved(model, inputs, "double_stream_blocks.0.block.attn1", change)
    assert (record.grid, record.image) == ((6, width // 2), slice(0, 3 * width))
    assert record.text == slice(padded, padded + 5 + 2 * 7)
    assert record.tokens == padded + 19
    assert tokens == [[2 * (width // 2) + 3]] * 2


def test_hidreams_text_is_t5s_then_llamas_last_layer_then_the_blocks_own():
    for layer, states, found in (
        ("double_stream_blocks.0.block.attn1", ("encoder_hidden_states_t5", (slice(None), 1)), [64 + 1]),
        (
            "double_stream_blocks.0.block.attn1",
            ("encoder_hidden_states_llama3", (1, slice(None), 2)),
            [64 + 7],
        ),
        (
            "double_stream_blocks.0.block.attn1",
            ("encoder_hidden_states_llama3", (0, slice(None), 2)),
            [64 + 14],
        ),
    ):
        inputs, (name, place) = hidream_inputs(), states

        def change(inputs=inputs, name=name, place=place):
            inputs[name][place] += 1

        _, tokens = moved(seeded(tiny.hidream), inputs, layer, change)
        assert tokens == [found] * 2


def test_kandinsky_3s_levels_have_their_own_grids():
    model = seeded(tiny.kandinsky3_unet)
    assert AttentionTap(model).layers == ("up_blocks.0.attentions.0.attention",)
    inputs = {
        "sample": randn(2, 4, 24, 32),
        "timestep": torch.tensor(10),
        "encoder_hidden_states": randn(2, 5, 32),
        "encoder_attention_mask": torch.ones(2, 5),
    }
    with no_grad(), Spy() as spy, capture(model, "all") as maps:
        model(**inputs)
    assert [record.grid for record in maps] == [(12, 16), (6, 8), (3, 4), (3, 4), (6, 8), (12, 16)]
    for record in maps:
        seen = next(call for call in spy.calls if torch.equal(call["query"], record.q))
        torch.testing.assert_close(record.maps() @ seen["value"], seen["output"], rtol=0, atol=1e-5)


def ernie_inputs(*prompts):
    return {
        "hidden_states": randn(2, 16, 6, 10),
        "timestep": torch.full((2,), 500.0),
        "text_bth": randn(2, max(prompts), 16),
        "text_lens": torch.tensor(prompts),
    }


def test_ernies_image_comes_first_one_token_a_latent_pixel():
    inputs, model = ernie_inputs(7, 4), seeded(tiny.ernie)

    def change():
        inputs["hidden_states"][1, :, 2, 3] += 1
        inputs["text_bth"][0, 2] += 1

    record, tokens = moved(model, inputs, "layers.0.self_attention", change)
    assert (record.grid, record.image, record.text) == ((6, 10), slice(0, 60), slice(60, 67))
    assert tokens == [[62], [23]]
    assert (record.maps()[1, ..., 64:] == 0).all()


def glm_inputs():
    return {
        "hidden_states": randn(2, 4, 12, 20),
        "encoder_hidden_states": randn(2, 7, 32),
        "prior_token_id": torch.arange(60).remainder(32).expand(2, -1),
        "prior_token_drop": torch.zeros(2, 60, dtype=torch.bool),
        "timestep": torch.full((2,), 499.0),
        "target_size": torch.full((2, 2), 24.0),
        "crop_coords": torch.zeros(2, 2),
    }


def test_glms_text_comes_first():
    inputs, model = glm_inputs(), seeded(tiny.glm)

    def change():
        add_to_patch(inputs["hidden_states"], 2, 3)()
        inputs["encoder_hidden_states"][0, 4] += torch.linspace(-1, 1, 32)

    record, tokens = moved(model, inputs, "transformer_blocks.0.attn1", change)
    assert (record.grid, record.text, record.image) == ((6, 10), slice(0, 7), slice(7, 67))
    assert tokens == [[4, 7 + 23], [7 + 23]]


@pytest.mark.parametrize(("mode", "refused"), [(None, False), ("write", True), ("read", True)])
def test_glms_cached_keys_of_pictures(mode, refused):
    model, caches = tiny.glm(), GlmImageKVCache(3)
    caches.set_mode(mode)
    why = calling_of(model).refused(model, {"kv_caches": caches})
    assert ("it can be guided without pictures" in why) == refused


def own_part(record, seen, first):
    """The rows of a map over all keys, of its own keys alone, normalised again."""
    weights = (seen["query"] @ seen["key"].mT * record.scale).exp()[..., first : first + record.tokens]
    return weights / weights.sum(-1, keepdim=True)


def nucleus_inputs():
    return {
        "hidden_states": randn(2, 60, 16),
        "img_shapes": [(1, 6, 10)] * 2,
        "encoder_hidden_states": randn(2, 7, 16),
        "encoder_hidden_states_mask": torch.tensor([[True] * 7, [True] * 4 + [False] * 3]),
        "timestep": torch.full((2,), 0.5),
    }


def test_nucleus_images_tokens_are_alone_and_the_prompts_keys_after_theirs():
    inputs, model = nucleus_inputs(), seeded(tiny.nucleus)

    def change():
        inputs["hidden_states"][1, 23] += 1

    with Spy() as spy:
        record, tokens = moved(model, inputs, "transformer_blocks.0.attn", change)
    assert (record.grid, record.image, record.text) == ((6, 10), slice(0, 60), None)
    assert tokens == [[], [23]]
    seen = next(call for call in spy.calls if torch.equal(call["query"], record.q))
    assert seen["key"].shape[2] == 60 + 7
    torch.testing.assert_close(record.maps(), own_part(record, seen, 0), rtol=0, atol=1e-5)


def qwen21_inputs():
    """A reference of 2×4 tokens, for which two stand in the text."""
    slots = torch.tensor([[False, False, True, True, False, *[True] * 15]] * 2)
    return {
        "hidden_states": randn(2, 8 + 60, 4),
        "encoder_hidden_states": randn(2, 5, 16),
        "timestep": torch.full((2,), 0.5),
        "img_shapes": [[(1, 2, 4), (1, 6, 10)]] * 2,
        "img_mask": slots,
    }


def test_qwen_image_21s_image_comes_last_and_sees_the_keys_before_it():
    inputs, model = qwen21_inputs(), seeded(tiny.qwen21)

    def change():
        inputs["hidden_states"][1, 8 + 23] += 1

    with Spy() as spy:
        record, tokens = moved(model, inputs, "transformer_blocks.0.attn", change)
    assert (record.grid, record.image, record.text) == ((6, 10), slice(0, 60), None)
    assert tokens == [[], [23]]
    seen = next(call for call in spy.calls if torch.equal(call["query"], record.q))
    assert seen["key"].shape[2] == 3 + 8 + 60
    torch.testing.assert_close(record.maps(), own_part(record, seen, 11), rtol=0, atol=1e-5)


@no_grad()
def test_qwen_image_21s_image_is_the_last_of_what_goes_in_and_comes_out():
    inputs, model = qwen21_inputs(), seeded(tiny.qwen21)
    calling = calling_of(model)
    given, made = inputs["hidden_states"], model(**inputs).sample
    assert made.shape[1] == 3 + 8 + 60
    for held in (given, made):
        own = calling.holding.read(held, inputs)
        assert torch.equal(own, held[:, -60:])
        other = calling.holding.write(held, own + 1, inputs)
        assert torch.equal(other[:, :-60], held[:, :-60]) and torch.equal(other[:, -60:], own + 1)
    image = torch.arange(60.0).view(1, 60, 1).expand(1, 60, 4)
    seen = []
    calling.edit(image, (6, 10), lambda pictures: seen.append(pictures) or pictures)
    assert torch.equal(seen[0][0, 0], torch.arange(60.0).view(6, 10))


def omnigen_inputs():
    """Two rows with a picture of 2×2 tokens in their text, between them one without."""
    return {
        "hidden_states": randn(3, 4, 12, 20),
        "timestep": torch.full((3,), 0.5),
        "input_ids": torch.arange(4, 31).view(3, 9),
        "input_img_latents": [randn(1, 4, 4, 4), randn(1, 4, 4, 4)],
        "input_image_sizes": {0: [[2, 6]], 2: [[3, 7]]},
        "attention_mask": torch.ones(3, 70, 70),
        "position_ids": torch.arange(70).expand(3, -1).clone(),
    }


def test_omnigens_image_comes_last():
    inputs, model = omnigen_inputs(), seeded(tiny.omnigen)
    change = add_to_patch(inputs["hidden_states"], 2, 3)
    record, tokens = moved(model, inputs, "layers.0.self_attn", change)
    assert (record.grid, record.image, record.text) == ((6, 10), slice(10, 70), None)
    assert tokens == [[10 + 23]] * 3
    inputs["input_image_sizes"], inputs["input_img_latents"] = {}, []
    assert moved(model, inputs, "layers.0.self_attn", change)[0].text == slice(0, 9)


def flux3_inputs():
    ids = torch.cartesian_prod(*map(torch.arange, (1, 6, 10, 1))) * torch.tensor([1, 0.5, 0.5, 1])
    references = torch.cartesian_prod(*map(torch.arange, (1, 2, 3, 1))) - torch.tensor([0, 0, 0, 1])
    return {
        "hidden_states": randn(2, 60, 16),
        "encoder_hidden_states": randn(2, 7, 16),
        "timestep": torch.full((2,), 0.5),
        "img_ids": ids,
        "txt_ids": torch.zeros(7, 4),
        "image_cond_hidden_states": randn(2, 6, 16),
        "image_cond_ids": references,
    }


@pytest.mark.parametrize(
    ("layer", "first", "total"),
    [("mode_blocks.image.0.attn", 0, 60), ("single_transformer_blocks.0.attn", 7, 7 + 60 + 6)],
)
def test_flux3s_image_is_alone_first_and_then_between_text_and_references(layer, first, total):
    model, inputs = apart(seeded(tiny.flux3), "mode_blocks", "txt_mode_blocks"), flux3_inputs()

    def change():
        inputs["hidden_states"][1, 23] += 1

    record, tokens = moved(model, inputs, layer, change)
    assert (record.tokens, record.grid, record.image) == (total, (6, 10), slice(first, first + 60))
    assert record.text == (slice(0, 7) if first else None)
    assert tokens == [[], [first + 23]]
    assert AttentionTap(model).layers == ("single_transformer_blocks.0.attn",)


def test_controlnet_xs_own_layers_are_left_out():
    model = tiny.xs_pipeline().unet
    names = AttentionTap(model, "all").layers
    assert names and all(".ctrl_" not in name for name in names)
    middle = "mid_block.base_midblock.attentions.0.transformer_blocks.0.attn1"
    assert AttentionTap(model).layers == (middle,)


def controlled(inputs, tokens):
    residuals = {layer: randn(len(inputs["x"]), tokens, 32) for layer in (0, 2)}
    return inputs | {"controlnet_block_samples": residuals}


CALLS = {
    "Z-Image": (tiny.z_image, lambda: z_inputs(35, 9)),
    "Z-Image, its rows as many as a prompt's tokens": (tiny.z_image, lambda: z_inputs(2, 5)),
    "Z-Image, a ControlNet's residuals": (tiny.z_image, lambda: controlled(z_inputs(35, 9), 64 + 64)),
    "Omni": (lambda: tiny.z_image(16, 16), lambda: omni_inputs(35, 9)),
    "HiDream, as many rows as Llama's layers": (tiny.hidream, hidream_inputs),
    "ERNIE-Image": (tiny.ernie, lambda: ernie_inputs(7, 4)),
    "OmniGen": (tiny.omnigen, omnigen_inputs),
}


@no_grad()
@pytest.mark.parametrize("name", CALLS)
def test_rows_of_a_call_give_the_rows_of_its_output(name):
    build, inputs = CALLS[name][0], CALLS[name][1]()
    model = seeded(build)
    calling = calling_of(model)
    read = calling.holding.read
    whole = read(predicted(model(**inputs)), inputs)
    for row in range(len(whole)):
        part = Given.take((), inputs).rows(model, calling, slice(row, row + 1), len(whole))
        found = read(predicted(model(**part.kwargs)), part.kwargs)
        torch.testing.assert_close(found, whole[row : row + 1], rtol=0, atol=1e-5)
