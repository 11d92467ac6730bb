"""An image does not depend on its batch, and classifier-free guidance is recognised for what it is."""

import pytest
import torch

from sag import SelfAttentionGuidance
from tests.matrix.rows import ROWS
from tests.sag.helpers import EVERY_FAMILY, recorded
from tests.tiny_models import ARGUMENTS, PROMPT, Call, denoiser, pipeline

TOLERANCE = 1e-4


def images(pipe, arguments, generators, steps=2, scale=0.75):
    with SelfAttentionGuidance(sag_scale=scale)(pipe):
        result = pipe(**arguments, num_inference_steps=steps, generator=generators).images
    return torch.as_tensor(result)


def one(arguments, index):
    """The arguments for image `index` of a batch alone."""
    alone = {name: [value[index]] if isinstance(value, list) else value for name, value in arguments.items()}
    return alone | ({"batch_size": 1} if "batch_size" in arguments else {})


def seeded(seeds):
    return [torch.Generator().manual_seed(seed) for seed in seeds]


@pytest.mark.parametrize(("name", "cfg"), EVERY_FAMILY)
def test_an_image_of_a_batch_is_that_image_alone(name, cfg):
    pipe, arguments = pipeline(name), ARGUMENTS[name](Call(cfg=cfg, batch=3))
    batch = images(pipe, arguments, seeded([5, 6, 7]))
    for i in range(3):
        alone = images(pipe, one(arguments, i), seeded([5 + i]))
        torch.testing.assert_close(batch[i : i + 1], alone, rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("cfg", [True, False])
@pytest.mark.parametrize("name", ["sd", "sdxl", "sd3", "flux", "pixart"])
def test_each_of_several_images_per_prompt_is_that_image_alone(name, cfg):
    pipe = pipeline(name)
    arguments = ARGUMENTS[name](Call(cfg=cfg, batch=2, images_per_prompt=2))
    batch = images(pipe, arguments, seeded([1, 2, 3, 4]))
    for i in range(4):
        alone = images(pipe, one(arguments, i // 2) | {"num_images_per_prompt": 1}, seeded([1 + i]))
        torch.testing.assert_close(batch[i : i + 1], alone, rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize(
    "name", ["sd", "sdxl", "sd3", "flux", "pixart", "dit", "ddpm", "auraflow", "lumina", "hunyuan"]
)
def test_two_images_from_equal_noise_are_not_taken_for_classifier_free_guidance(name):
    pipe, arguments = pipeline(name), ARGUMENTS[name](Call(cfg=False, batch=2))
    batch = images(pipe, arguments, seeded([5, 5]))
    for i in range(2):
        alone = images(pipe, one(arguments, i), seeded([5]))
        torch.testing.assert_close(batch[i : i + 1], alone, rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize(("name", "cfg"), EVERY_FAMILY)
def test_two_images_from_equal_noise_count_as_two(name, cfg):
    pipe, arguments = pipeline(name), ARGUMENTS[name](Call(cfg=cfg, batch=2))
    with SelfAttentionGuidance()(pipe) as guidance:
        pipe(**arguments, num_inference_steps=2, generator=seeded([5, 5]))
    assert [len(step.score) for step in guidance.steps] == [2, 2]


SIZES = {"sd": (48, 32), "sdxl": (32, 64), "sd3": (24, 48), "flux": (32, 48), "pixart": (48, 24)}


@pytest.mark.parametrize("name", SIZES)
def test_masks_have_the_images_shape(name):
    height, width = SIZES[name]
    pipe = pipeline(name)
    arguments = ARGUMENTS[name](Call(height=height, width=width))
    with SelfAttentionGuidance()(pipe) as guidance:
        pipe(**arguments, num_inference_steps=2, generator=seeded([0])[0])
    grid = (height // 4, width // 4)  # the VAE halves, and so does the next patch or block
    for step in guidance.steps:
        assert step.mask.shape == step.score.shape == (1, *grid)


@pytest.mark.parametrize("name", ["dit", "ddpm"])
def test_square_families_take_other_sizes_too(name):
    pipe = pipeline(name, size=(32, 48) if name == "ddpm" else (48, 48))
    arguments = ARGUMENTS[name](Call())
    assert torch.isfinite(images(pipe, arguments, seeded([0])[0])).all()


def test_flux_reuses_the_first_shift_only_for_the_same_steps_other_half():
    pipe = pipeline("flux")
    model = denoiser(pipe)
    with SelfAttentionGuidance()(pipe) as guidance, recorded(model) as calls:
        pipe(**ARGUMENTS["flux"](Call(cfg=True)), num_inference_steps=3, generator=seeded([0])[0])
    assert len(calls) == 2 + 2 * 3  # the first step is noise alone
    assert len(guidance.steps) == 3
    _, cond, uncond = calls[5:]
    plain = [model(**half.inputs | {"return_dict": False})[0] for half in (cond, uncond)]
    torch.testing.assert_close(cond.output - plain[0], uncond.output - plain[1], rtol=0, atol=1e-6)
    assert (cond.output - plain[0]).abs().max() > 1e-4


def test_two_runs_of_one_step_from_one_seed_do_not_share_a_shift():
    def run(prompt):
        arguments = ARGUMENTS["flux"](Call(cfg=False)) | {"prompt": [prompt], "sigmas": [0.5]}
        return pipe(**arguments, num_inference_steps=1, generator=seeded([0])[0]).images

    pipe = pipeline("flux")
    with SelfAttentionGuidance()(pipe):
        alone = run("another thing")
    with SelfAttentionGuidance()(pipe), recorded(denoiser(pipe)) as calls:
        run(PROMPT)
        after = run("another thing")
    assert len(calls) == 4
    assert torch.equal(after, alone)


def test_sd3_skipped_layers_get_the_same_shift_as_the_halves_they_are_compared_with():
    pipe = pipeline("sd3")
    arguments = ARGUMENTS["sd3"](Call()) | {
        "skip_guidance_layers": [0],
        "skip_layer_guidance_start": 0.0,
        "skip_layer_guidance_stop": 1.0,
    }
    with SelfAttentionGuidance()(pipe), recorded(pipe.transformer) as calls:
        pipe(**arguments, num_inference_steps=4, generator=seeded([0])[0])
    skipping = [i for i, call in enumerate(calls) if call.inputs.get("skip_layers")]
    assert skipping
    for i in skipping:
        plain = [pipe.transformer(**call.inputs)[0] for call in calls[i - 1 : i + 1]]
        main, skip = (call.output - p for call, p in zip(calls[i - 1 : i + 1], plain, strict=True))
        torch.testing.assert_close(skip, main[:1], rtol=0, atol=1e-6)
    assert main.abs().max() > 1e-4


@pytest.mark.parametrize("name", ["HunyuanDiT", "Bria"])
def test_as_many_positions_as_rows_are_not_taken_for_rows(name):
    """2×2 tokens of two images, each with both halves of classifier-free guidance: four of either."""
    row, side = ROWS[name], 8 if name == "Bria" else 32
    pipe = row.build()
    arguments = row.arguments(Call(batch=2)) | {"height": side, "width": side}
    del arguments["num_inference_steps"]
    with recorded(pipe.transformer) as calls:
        batch = images(pipe, arguments, seeded([5, 6]))
    positions = calls[0].inputs["img_ids" if name == "Bria" else "image_rotary_emb"]
    assert len(positions if name == "Bria" else positions[0]) == len(calls[0].inputs["hidden_states"]) == 4
    for i in range(2):
        alone = images(pipe, one(arguments, i), seeded([5 + i]))
        torch.testing.assert_close(batch[i : i + 1], alone, rtol=0, atol=TOLERANCE)
