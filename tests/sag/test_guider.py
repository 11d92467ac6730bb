"""The guider of modular pipelines: the hook's equal, saved and loaded, and gone when it should be."""

import json
from dataclasses import fields

import diffusers as d
import pytest
import torch

from sag import GuidanceSettings, SelfAttentionGuidance, TokenRankGuider
from tests.matrix.modular import BY_THE_GUIDER
from tests.matrix.rows import IMAGE, ROWS
from tests.sag.helpers import count_calls, traces
from tests.tiny_models import NEGATIVE, PROMPT, denoiser, pipeline
from tokenrank_guidance import AttentionTap, CaptureError, UnsupportedError
from tokenrank_guidance.families.refused_pipelines import REFUSED_PIPELINES

BLOCKS = {name: BY_THE_GUIDER[name] for name in ("sdxl", "sd3")}
STEPS, GUIDANCE = 4, 5.0
SIZE = ("height", "width")


@pytest.fixture(autouse=True)
def quiet_logger():
    """Modular pipelines warn of being experimental, and of components that were never on a hub."""
    before = d.utils.logging.get_verbosity()
    d.utils.logging.set_verbosity_error()
    yield
    d.utils.logging.set_verbosity(before)


def modular(name, parts):
    pipe = BLOCKS[name]().init_pipeline()
    names = pipe._component_specs
    pipe.update_components(**{key: part for key, part in parts.items() if key in names and part is not None})
    return pipe


def arguments(name, **changed):
    common = {
        "prompt": PROMPT,
        "negative_prompt": NEGATIVE,
        "height": 32,
        "width": 32,
        "num_inference_steps": STEPS,
        "output_type": "latent",
        "generator": torch.Generator().manual_seed(0),
    }
    return common | ({"max_sequence_length": 16} if name == "sd3" else {}) | changed


def classic(name, pipe, guidance, scale=GUIDANCE, **options):
    with guidance(pipe):
        return pipe(**arguments(name), guidance_scale=scale, **options).images


def guided(name, pipe, guider, **changed):
    pipe.update_components(guider=guider)
    return pipe(**arguments(name, **changed), output="images")


def error(found, wanted):
    """Largest difference, relative to the largest value wanted."""
    return ((found - wanted).abs().max() / wanted.abs().max()).item()


@pytest.mark.parametrize("scale", [GUIDANCE, 1.0], ids=["cfg", "no cfg"])
@pytest.mark.parametrize("scorer", ["tokenrank", "sag"])
@pytest.mark.parametrize("name", BLOCKS)
def test_the_guider_is_the_hook_on_the_classic_pipeline(name, scorer, scale):
    pipe = pipeline(name)
    plain = classic(name, pipe, SelfAttentionGuidance(sag_scale=0), scale)
    wanted = classic(name, pipe, SelfAttentionGuidance(scorer), scale)
    other = modular(name, pipe.components)
    guider = TokenRankGuider(scale, scorer=scorer).bind(other.scheduler)
    before = traces(denoiser(pipe))
    found, calls = count_calls(denoiser(pipe), lambda: guided(name, other, guider))
    assert error(found, wanted) <= 1e-5
    assert error(found, plain) > 1e-3
    bare = sum(step.noise_alone for step in guider.steps)
    assert calls == (3 if scale > 1 else 2) * STEPS - bare
    assert [step.number for step in guider.steps] == list(range(STEPS))
    assert all(0 < step.mask.float().mean() < 1 for step in guider.steps)
    assert traces(denoiser(pipe)) == before


@pytest.mark.parametrize("name", BLOCKS)
def test_soft_masks_are_the_hooks(name):
    pipe = pipeline(name)
    wanted = classic(name, pipe, SelfAttentionGuidance(threshold=0.8, mask="soft"))
    hard = classic(name, pipe, SelfAttentionGuidance(threshold=0.8))
    other = modular(name, pipe.components)
    guider = TokenRankGuider(GUIDANCE, threshold=0.8, mask="soft").bind(other.scheduler)
    found = guided(name, other, guider)
    assert error(found, wanted) <= 1e-5
    assert error(found, hard) > 1e-4
    assert all(0 < step.mask.mean() < 1 for step in guider.steps)


def test_guidance_rescale_is_the_classic_pipelines():
    pipe = pipeline("sdxl")
    wanted = classic("sdxl", pipe, SelfAttentionGuidance(), guidance_rescale=0.7)
    other = modular("sdxl", pipe.components)
    guider = TokenRankGuider(GUIDANCE, guidance_rescale=0.7).bind(other.scheduler)
    assert error(guided("sdxl", other, guider), wanted) <= 1e-5


@pytest.mark.parametrize("name", BLOCKS)
def test_the_window_is_the_hooks(name):
    pipe = pipeline(name)
    guidance = SelfAttentionGuidance(start=0.25, stop=0.9, every=2, threshold=1.2, layers=-1)
    wanted = classic(name, pipe, guidance)
    other = modular(name, pipe.components)
    settings = {"sag_start": 0.25, "sag_stop": 0.9, "every": 2, "threshold": 1.2, "layers": -1}
    guider = TokenRankGuider(GUIDANCE, **settings).bind(other.scheduler)
    assert error(guided(name, other, guider), wanted) <= 1e-5
    assert [step.number for step in guider.steps] == [1, 3]


@pytest.mark.parametrize("name", BLOCKS)
def test_the_steps_that_reuse_a_shift_are_the_hooks(name):
    pipe = pipeline(name)
    wanted = classic(name, pipe, SelfAttentionGuidance(reuse=2, start=0.25))
    other = modular(name, pipe.components)
    guider = TokenRankGuider(GUIDANCE, reuse=2, sag_start=0.25).bind(other.scheduler)
    assert error(guided(name, other, guider), wanted) <= 1e-5
    assert [step.number for step in guider.steps] == [1, 3]


@pytest.mark.parametrize(
    ("name", "row"), [("sdxl", "StableDiffusionXLImg2Img"), ("sd3", "StableDiffusion3Img2Img")]
)
def test_image_to_image_is_the_classic_pipelines(name, row):
    pipe = ROWS[row].build()
    given = {"image": IMAGE, "strength": 0.8, "num_inference_steps": 5}
    sized = {key: value for key, value in arguments(name).items() if name == "sd3" or key not in SIZE} | given
    with SelfAttentionGuidance()(pipe) as guidance:
        wanted = pipe(**sized, guidance_scale=GUIDANCE).images
    other = modular(name, pipe.components)
    guider = TokenRankGuider(GUIDANCE).bind(other.scheduler)
    assert error(guided(name, other, guider, **given), wanted) <= 1e-5
    assert [step.timestep for step in guider.steps] == [step.timestep for step in guidance.steps]


def test_a_scheduler_that_comes_after_guide_is_the_one_that_is_read():
    pipe = pipeline("sdxl")
    other = modular("sdxl", pipe.components)
    guider = TokenRankGuider(GUIDANCE, reuse=2).guide(other)
    pipe.scheduler = d.EulerDiscreteScheduler.from_config(pipe.scheduler.config)
    wanted = classic("sdxl", pipe, SelfAttentionGuidance(reuse=2))
    other.update_components(scheduler=pipe.scheduler)
    assert error(other(**arguments("sdxl"), output="images"), wanted) <= 1e-5
    assert [step.number for step in guider.steps] == [0, 2]


def test_a_run_of_noise_alone_is_said():
    pipe = pipeline("sd3")
    guider = TokenRankGuider(GUIDANCE).bind(pipe.scheduler)
    with pytest.warns(UserWarning, match="nothing was guided in a run of TokenRankGuider: .* noise alone"):
        guided("sd3", modular("sd3", pipe.components), guider, num_inference_steps=1)
    assert [step.noise_alone for step in guider.steps] == [True]


def test_controlnet_is_the_classic_pipelines():
    pipe = ROWS["StableDiffusionXLControlNet"].build()
    given = {"controlnet_conditioning_scale": 0.7}
    with SelfAttentionGuidance()(pipe):
        wanted = pipe(**arguments("sdxl"), image=IMAGE, guidance_scale=GUIDANCE, **given).images
    other = modular("sdxl", pipe.components)
    guider = TokenRankGuider(GUIDANCE).bind(other.scheduler)
    assert error(guided("sdxl", other, guider, control_image=IMAGE, **given), wanted) <= 1e-5


@pytest.mark.parametrize("name", BLOCKS)
def test_scale_0_is_classifier_free_guidance_bit_for_bit(name):
    other = modular(name, pipeline(name).components)
    plain = guided(name, other, d.ClassifierFreeGuidance(guidance_scale=GUIDANCE))
    model = denoiser(other)
    found, calls = count_calls(
        model, lambda: guided(name, other, TokenRankGuider(guidance_scale=GUIDANCE, sag_scale=0))
    )
    assert torch.equal(found, plain)
    assert calls == 2 * STEPS


def test_saved_and_loaded_it_has_the_same_settings(tmp_path):
    settings = {"guidance_scale": 3.0, "scorer": "sag", "sag_scale": 0.5, "layers": ["auto", 0], "every": 2}
    settings["mask"] = "soft"
    guider = TokenRankGuider(**settings)
    guider.save_pretrained(tmp_path)
    saved = json.loads((tmp_path / "guider_config.json").read_text())
    assert saved.items() >= settings.items()
    loaded = TokenRankGuider.from_pretrained(tmp_path)
    assert settings.items() <= dict(loaded.config).items()
    assert (loaded.guidance.layers, loaded.guidance.every) == (["auto", 0], 2)
    assert loaded.guidance.mask == "soft"
    assert guider.new(sag_scale=0.1).guidance.sag_scale == 0.1


def test_every_field_of_the_settings_is_forwarded():
    changed = {
        "scorer": "rollout",
        "sag_scale": 0.1,
        "layers": -1,
        "damping": 0.2,
        "head_weights": "lambda2",
        "threshold": 0.3,
        "blur_kernel": 5,
        "blur_sigma": 0.4,
        "start": 0.5,
        "stop": 0.6,
        "every": 7,
        "mask": "soft",
        "reuse": 8,
        "keep_contrast": 0.9,
    }
    assert list(changed) == [field.name for field in fields(GuidanceSettings)]
    own = {f"sag_{name}" if name in ("start", "stop") else name: value for name, value in changed.items()}
    made = TokenRankGuider(**own).guidance
    assert {name: getattr(made, name) for name in changed} == changed


def test_the_former_name_of_keep_contrast_is_read_and_saved_under_the_new_one(tmp_path):
    with pytest.warns(DeprecationWarning, match="rescale is now called keep_contrast"):
        guider = TokenRankGuider(rescale=0.25)
    assert guider.guidance.keep_contrast == 0.25
    guider.save_pretrained(tmp_path)
    assert TokenRankGuider.from_pretrained(tmp_path).guidance.keep_contrast == 0.25


def test_outside_of_a_pipeline_an_unbound_guider_says_what_to_call():
    guider = TokenRankGuider(1.0)
    guider.set_state(0, 2, torch.tensor(999))
    with pytest.raises(RuntimeError, match=r"call guider\.bind\(scheduler\) first"):
        guider.prepare_models(denoiser(pipeline("sdxl")))


def test_the_scheduler_is_the_pipelines_own_after_an_exchange_and_in_a_second_pipeline():
    """Timesteps may be the same where noise levels are not."""
    pipe = pipeline("sdxl")
    first = modular("sdxl", pipe.components)
    noisier = d.DDIMScheduler.from_config(first.scheduler.config, beta_end=0.1)
    guider = TokenRankGuider(GUIDANCE).guide(first)
    before = guided("sdxl", first, guider)
    second = modular("sdxl", pipe.components | {"scheduler": noisier})
    found = guided("sdxl", second, guider)
    pipe.scheduler = noisier
    wanted = classic("sdxl", pipe, SelfAttentionGuidance())
    assert error(found, wanted) <= 1e-5
    assert torch.equal(guided("sdxl", first, guider), before)
    first.update_components(scheduler=noisier)
    assert torch.equal(guided("sdxl", first, guider), found)


def test_a_pipeline_that_cannot_be_guided_is_refused_though_guide_was_not_called(monkeypatch):
    other = modular("sdxl", pipeline("sdxl").components)
    monkeypatch.setitem(REFUSED_PIPELINES, "StableDiffusionXLModularPipeline", "of a reason")
    guided("sdxl", other, TokenRankGuider(GUIDANCE, sag_scale=0))
    with pytest.raises(UnsupportedError, match="cannot guide StableDiffusionXLModularPipeline: of a reason"):
        guided("sdxl", other, TokenRankGuider(GUIDANCE))


def test_a_scheduler_that_cannot_be_guided_with_is_refused():
    other = modular("sdxl", pipeline("sdxl").components)
    other.update_components(scheduler=d.DDIMInverseScheduler.from_config(other.scheduler.config))
    with pytest.raises(UnsupportedError, match="cannot guide with DDIMInverseScheduler"):
        guided("sdxl", other, TokenRankGuider().bind(other.scheduler))


def test_bad_settings_are_named():
    with pytest.raises(ValueError, match="blur_kernel is 4; expected an odd whole number"):
        TokenRankGuider(blur_kernel=4)
    with pytest.raises(ValueError, match="a guider is saved, so it expects"):
        TokenRankGuider(scorer=lambda record: record.q)


class Failing:
    """An attention processor that raises in its call number `at`."""

    def __init__(self, processor, error, at):
        self.processor, self.error, self.left = processor, error, at

    def __call__(self, attn, *args, **kwargs):
        self.left -= 1
        if self.left == 0:
            raise self.error
        return self.processor(attn, *args, **kwargs)


@pytest.mark.parametrize("at", [2, 3], ids=["watched pass", "guidance's pass"])
@pytest.mark.parametrize("raised", [RuntimeError("boom"), KeyboardInterrupt()], ids=["error", "interrupt"])
def test_nothing_stays_after_an_error_or_once_disabled_after_an_interrupt(raised, at):
    pipe = pipeline("sdxl")
    other = modular("sdxl", pipe.components)
    guider = TokenRankGuider(GUIDANCE).bind(other.scheduler)
    wanted = guided("sdxl", other, guider)
    layer = pipe.unet.get_submodule(AttentionTap(pipe.unet).layers[0])
    processor = layer.processor
    before = traces(pipe.unet)
    layer.processor = Failing(processor, raised, at)
    with pytest.raises(type(raised)):
        guided("sdxl", other, guider)
    layer.processor = processor
    if isinstance(raised, KeyboardInterrupt):  # torch runs no hooks after it, and no guider hears of it
        guider.disable()
        guider.enable()
    assert traces(pipe.unet) == before
    assert torch.equal(guided("sdxl", other, guider), wanted)


def test_attention_slicing_is_an_error_that_leaves_nothing():
    pipe = pipeline("sdxl")
    pipe.enable_attention_slicing()
    other = modular("sdxl", pipe.components)
    before = traces(pipe.unet)
    with pytest.raises(CaptureError, match="Undo attention slicing"):
        guided("sdxl", other, TokenRankGuider().bind(other.scheduler))
    assert traces(pipe.unet) == before


@pytest.mark.parametrize("guider", [d.AdaptiveProjectedGuidance, d.ClassifierFreeGuidance, TokenRankGuider])
def test_a_modular_pipeline_with_a_guider_is_refused_by_the_hook(guider):
    """It would look at the prompt's pass, which comes first, and on top of TokenRankGuider guide twice."""
    other = modular("sdxl", pipeline("sdxl").components)
    other.update_components(guider=guider())
    before = traces(other.unet)
    with pytest.raises(UnsupportedError, match=r"guide it with sag\.TokenRankGuider\(\)\.guide\(pipe\)"):
        SelfAttentionGuidance().enable(other)
    assert traces(other.unet) == before
