import diffusers
import pytest
import torch
from diffusers import FluxPipeline
from torch import no_grad, randn, tensor

from tests import tiny_networks as tiny
from tests.capture.helpers import flux_inputs, sd3_inputs, seeded, unet, unet_inputs
from tests.tiny_models import FIXED_SIZE, PIPELINES, Call, denoiser, pipeline, run
from tokenrank_guidance.capture import capture
from tokenrank_guidance.families.flux import image_tokens


@pytest.mark.parametrize("name", [name for name in PIPELINES if name != "dit"])
def test_the_grid_of_each_family_is_not_assumed_square(name):
    fixed = name in FIXED_SIZE
    pipe = pipeline(name, size=(24, 40)) if fixed else pipeline(name)
    with capture(denoiser(pipe)) as maps:
        run(name, pipe, Call() if fixed else Call(height=24, width=40))
    assert maps[-1].grid == (6, 10)
    assert len(range(*maps[-1].image.indices(maps[-1].tokens))) == 60


@no_grad()
@pytest.mark.parametrize("size", [(12, 10), (11, 13), (9, 16), (5, 3)])
def test_a_unet_rounds_odd_sizes_up(size):
    model = unet()
    with capture(model, "all") as maps:
        model(**unet_inputs(*size))
    half = tuple(-(-side // 2) for side in size)
    assert [r.grid for r in maps] == [size, half, size, size]


@no_grad()
def test_downsampling_that_pads_after_rounds_down():
    model = seeded(
        diffusers.UNet2DModel,
        sample_size=15,
        block_out_channels=(16, 16),
        layers_per_block=1,
        down_block_types=("DownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "UpBlock2D"),
        downsample_padding=0,
        attention_head_dim=8,
        norm_num_groups=8,
    )
    with capture(model) as maps, pytest.raises(RuntimeError):  # the way up cannot undo an odd size
        model(randn(1, 3, 15, 14), tensor(3))
    assert maps[-1].grid == (7, 7)


@no_grad()
def test_transformers_count_whole_patches():
    model = seeded(tiny.pixart)
    with capture(model) as maps:
        model(
            randn(1, 4, 6, 16),
            encoder_hidden_states=randn(1, 7, 32),
            timestep=tensor([5]),
            added_cond_kwargs={"resolution": None, "aspect_ratio": None},
        )
    assert maps[-1].grid == (3, 8)


@no_grad()
def test_sd3_puts_image_tokens_first_and_text_after():
    model = seeded(tiny.sd3)
    with capture(model, "all") as maps:
        model(**sd3_inputs(8, 12, text=5))
    joint, dual = maps[0], maps[1]
    assert (joint.module, joint.grid, joint.image, joint.text) == (
        "transformer_blocks.0.attn",
        (4, 6),
        slice(0, 24),
        slice(24, 29),
    )
    assert (dual.module, dual.tokens, dual.image, dual.text) == (
        "transformer_blocks.0.attn2",
        24,
        slice(0, 24),
        None,
    )


@no_grad()
@pytest.mark.parametrize("layer", ["transformer_blocks.0.attn", "single_transformer_blocks.1.attn"])
def test_flux_puts_text_tokens_first_and_image_after(layer):
    model = seeded(tiny.flux)
    with capture(model, layer) as maps:
        model(**flux_inputs(4, 6, text=5))
    assert (maps[-1].grid, maps[-1].text, maps[-1].image) == ((4, 6), slice(0, 5), slice(5, 29))


@no_grad()
def test_flux_positions_may_start_anywhere_and_carry_reference_images():
    model, inputs = seeded(tiny.flux), flux_inputs(4, 6, text=5)
    own = inputs["img_ids"] + tensor([0.0, 3.0, 7.0])
    reference = flux_inputs(2, 4)["img_ids"] + tensor([1.0, 0.0, 0.0])
    inputs["img_ids"] = torch.cat([own, reference])
    inputs["hidden_states"] = randn(2, 32, 16)
    with capture(model) as maps:
        model(**inputs)
    assert (maps[-1].tokens, maps[-1].grid, maps[-1].image) == (37, (4, 6), slice(5, 29))


@no_grad()
def test_flux_positions_changed_in_place_are_read_again():
    model, inputs = seeded(tiny.flux), flux_inputs(4, 6)
    grids = []
    for _ in range(2):
        with capture(model) as maps:
            model(**inputs)
        grids.append(maps[-1].grid)
        inputs["img_ids"].copy_(flux_inputs(6, 4)["img_ids"])
    assert grids == [(4, 6), (6, 4)]


@pytest.mark.parametrize("grid", [(2, 300), (300, 2), (1, 5), (5, 1), (259, 258)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_flux_positions_that_are_rounded_tell_the_grid(grid, dtype):
    """bfloat16 has no odd numbers above 256, as tokens of pictures wider than 4,096 pixels are numbered."""
    places = FluxPipeline._prepare_latent_image_ids(1, *grid, "cpu", dtype)
    assert image_tokens(places) == (grid[0] * grid[1], grid)


def test_flux_positions_that_are_no_grid_tell_none():
    by_columns = torch.tensor([[0, row, column] for column in range(3) for row in range(2)])
    ragged = torch.tensor([[0, 0, 0], [0, 0, 1], [0, 1, 0]])
    for places in (torch.zeros(6, 3), by_columns, ragged):
        assert image_tokens(places) == (len(places), None)


@no_grad()
def test_flux_positions_that_fill_no_rectangle_have_no_grid():
    model, inputs = seeded(tiny.flux), flux_inputs(4, 6)
    inputs["img_ids"], inputs["hidden_states"] = inputs["img_ids"][:-1], inputs["hidden_states"][:, :-1]
    with capture(model) as maps:
        model(**inputs)
    assert (maps[-1].grid, maps[-1].image) == (None, slice(5, 28))


@no_grad()
def test_cross_attention_with_as_many_text_tokens_as_pixels_is_not_taken():
    model = unet()
    with capture(model, "all", keep=None) as maps:
        model(**unet_inputs(16, 16, text=64))
    assert [r.module for r in maps] == list(maps.layers)
    assert all(r.module.endswith("attn1") for r in maps)
