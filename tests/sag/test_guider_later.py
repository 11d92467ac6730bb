"""The guider where classic pipelines call their denoiser once for each half, and where it can only refuse."""

import inspect
import json
from types import SimpleNamespace
from typing import Any

import diffusers as d
import pytest
import torch
from diffusers import modular_pipelines as m
from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution
from torch import Tensor, nn

from sag import SelfAttentionGuidance, TokenRankGuider
from tests.matrix.building import IMAGE, MASK, variant
from tests.matrix.later import PICTURE, with_controlnet
from tests.matrix.modular import BY_THE_GUIDER, BY_THE_HOOK
from tests.sag.helpers import count_calls, recorded, traces
from tests.tiny_dit_pipelines import short_prompts as short_templates
from tests.tiny_models import ARGUMENTS, NEGATIVE, PROMPT, Call, denoiser, pipeline
from tokenrank_guidance import UnsupportedError
from tokenrank_guidance.families.registry import family_of, habits_of

BLOCKS = {name: BY_THE_GUIDER[name] for name in ("qwen", "flux2-klein")}
WITHOUT = {name: BY_THE_HOOK[name] for name in ("flux", "flux2")}
STEPS = 4
OUT_LAYERS = {"text_encoder_out_layers": (1,)}
EXTRA = {"qwen": {"negative_prompt": NEGATIVE}, "flux2-klein": OUT_LAYERS, "flux2": OUT_LAYERS}
SCALE = {"qwen": "true_cfg_scale", "flux2-klein": "guidance_scale"}


@pytest.fixture(autouse=True)
def quiet_logger():
    """Modular pipelines warn of being experimental, and of components that were never on a hub."""
    before = d.utils.logging.get_verbosity()
    d.utils.logging.set_verbosity_error()
    yield
    d.utils.logging.set_verbosity(before)


def short_prompts(blocks):
    """Qwen-Image frames a prompt with a page of instructions, one token per letter here."""
    for block in blocks.sub_blocks.values():
        if hasattr(block, "prompt_template_encode"):
            block.prompt_template_encode, block.prompt_template_encode_start_idx = "{}", 0
        short_prompts(block)


def modular(blocks, parts):
    pipe = blocks().init_pipeline()
    short_prompts(pipe._blocks)
    pipe.set_progress_bar_config(disable=True)
    names = pipe._component_specs
    pipe.update_components(**{key: part for key, part in parts.items() if key in names and part is not None})
    return pipe


def arguments(name, **changed):
    common = {
        "prompt": PROMPT,
        "height": 32,
        "width": 32,
        "num_inference_steps": STEPS,
        "max_sequence_length": 16,
        "output_type": "pt",
        "generator": torch.Generator().manual_seed(0),
    }
    return common | EXTRA.get(name, {}) | changed


def sampled(pipe, given, **options):
    """What the scheduler made last: before anything is unpacked, which classic pipelines do elsewhere."""
    made, step = [], pipe.scheduler.step

    def kept(*args, **kwargs):
        stepped = step(*args, **kwargs)
        made.append(stepped[0])
        return stepped

    pipe.scheduler.step = kept
    try:
        pipe(**given, **options)
    finally:
        del pipe.scheduler.step
    return made[-1]


def classic(name, pipe, guidance, scale=5.0, **changed):
    with guidance(pipe):
        return sampled(pipe, arguments(name, **changed), **{SCALE[name]: scale})


def error(found, wanted):
    """Largest difference, relative to the largest value wanted."""
    return ((found - wanted).abs().max() / wanted.abs().max()).item()


@pytest.mark.parametrize("scale", [5.0, 1.0], ids=["cfg", "no cfg"])
@pytest.mark.parametrize("scorer", ["tokenrank", "sag"])
@pytest.mark.parametrize("name", BLOCKS)
def test_the_guider_is_the_hook_on_the_classic_pipeline(name, scorer, scale):
    pipe = pipeline(name)
    plain = classic(name, pipe, SelfAttentionGuidance(sag_scale=0), scale)
    wanted = classic(name, pipe, SelfAttentionGuidance(scorer), scale)
    other = modular(BLOCKS[name], pipe.components)
    guider = TokenRankGuider(scale, scorer=scorer).guide(other)
    assert other.guider is guider
    before = traces(denoiser(pipe))
    found, calls = count_calls(denoiser(pipe), lambda: sampled(other, arguments(name)))
    assert error(found, wanted) <= 1e-5
    assert error(found, plain) > 1e-3
    bare = sum(step.noise_alone for step in guider.steps)
    assert calls == (3 if scale > 1 else 2) * STEPS - bare
    assert [step.number for step in guider.steps] == list(range(STEPS))
    assert all(0 < step.mask.float().mean() < 1 for step in guider.steps)
    assert traces(denoiser(pipe)) == before


@pytest.mark.parametrize("name", BLOCKS)
def test_window_reuse_soft_masks_and_rescaling_are_the_hooks(name):
    pipe = pipeline(name)
    shared = {"reuse": 2, "threshold": 0.8, "mask": "soft", "layers": -1, "keep_contrast": 0.7}
    wanted = classic(name, pipe, SelfAttentionGuidance(start=0.25, **shared))
    other = modular(BLOCKS[name], pipe.components)
    guider = TokenRankGuider(5.0, sag_start=0.25, **shared).guide(other)
    assert error(sampled(other, arguments(name)), wanted) <= 1e-5
    assert [step.number for step in guider.steps] == [1, 3]


@pytest.mark.parametrize(
    "changed",
    [
        {"scorer": "tokenrank-incoming"},
        {"damping": 0.5},
        {"head_weights": "lambda2"},
        {"blur_kernel": 3},
        {"blur_sigma": 4.0},
        {"every": 2},
    ],
    ids=lambda changed: next(iter(changed)),
)
def test_every_setting_reaches_the_guidance(changed):
    """Each changes the picture, as it does in the classic pipeline."""
    pipe = pipeline("qwen")
    shared = {"mask": "soft", "keep_contrast": 0.0, "sag_scale": 2.0}
    usual, wanted = (classic("qwen", pipe, SelfAttentionGuidance(**shared, **more)) for more in ({}, changed))
    other = modular(BLOCKS["qwen"], pipe.components)
    TokenRankGuider(5.0, **shared, **changed).guide(other)
    assert error(sampled(other, arguments("qwen")), wanted) <= 1e-5
    assert error(wanted, usual) > 1e-4


def test_a_reference_image_is_the_classic_pipelines():
    """The blocks cut its tokens off the prediction that the guider is given."""
    pipe = pipeline("flux2-klein")
    wanted = classic("flux2-klein", pipe, SelfAttentionGuidance(), image=PICTURE)
    without = classic("flux2-klein", pipe, SelfAttentionGuidance())
    other = modular(BLOCKS["flux2-klein"], pipe.components)
    TokenRankGuider(5.0).guide(other)
    found = sampled(other, arguments("flux2-klein", image=PICTURE))
    assert error(found, wanted) <= 1e-5
    assert error(found, without) > 1e-3


@pytest.mark.parametrize(
    ("cls", "given"),
    [
        (d.QwenImageImg2ImgPipeline, {"image": IMAGE}),
        (d.QwenImageInpaintPipeline, {"image": IMAGE, "mask_image": MASK, "output_type": "pil"}),
    ],
    ids=["img2img", "inpaint"],
)
def test_a_picture_to_begin_with_is_the_classic_pipelines(monkeypatch, cls, given):
    """Classic pipelines draw the picture's latents, the blocks take their mode."""
    monkeypatch.setattr(DiagonalGaussianDistribution, "sample", lambda self, generator=None: self.mode())
    pipe = short_templates(variant("qwen", cls))
    given = given | {"strength": 0.8, "num_inference_steps": 5}
    wanted = classic("qwen", pipe, SelfAttentionGuidance(), **given)
    other = modular(BLOCKS["qwen"], pipe.components)
    guider = TokenRankGuider(5.0).guide(other)
    assert error(sampled(other, arguments("qwen", **given)), wanted) <= 1e-5
    assert len(guider.steps) == STEPS


def test_controlnet_is_the_classic_pipelines(monkeypatch):
    """Classic pipelines encode a control image in [0, 1] as it is, the blocks scaled to [-1, 1]."""
    monkeypatch.setattr(DiagonalGaussianDistribution, "sample", lambda self, generator=None: self.mode())
    pipe = short_templates(with_controlnet("qwen", d.QwenImageControlNetPipeline, d.QwenImageControlNetModel))
    given = {"controlnet_conditioning_scale": 0.7}
    wanted = classic("qwen", pipe, SelfAttentionGuidance(), control_image=IMAGE, **given)
    other = modular(BLOCKS["qwen"], pipe.components)
    TokenRankGuider(5.0).guide(other)
    found = sampled(other, arguments("qwen", control_image=(IMAGE + 1) / 2, **given))
    assert error(found, wanted) <= 1e-5


@pytest.mark.parametrize("name", BLOCKS)
def test_scale_0_is_classifier_free_guidance_bit_for_bit(name):
    other = modular(BLOCKS[name], pipeline(name).components)
    other.update_components(guider=d.ClassifierFreeGuidance(guidance_scale=5.0))
    plain = sampled(other, arguments(name))
    TokenRankGuider(5.0, sag_scale=0).guide(other)
    found, calls = count_calls(denoiser(other), lambda: sampled(other, arguments(name)))
    assert torch.equal(found, plain)
    assert calls == 2 * STEPS


@pytest.mark.parametrize("name", BLOCKS)
def test_saved_and_loaded_it_guides_alike(name, tmp_path):
    other = modular(BLOCKS[name], pipeline(name).components)
    guider = TokenRankGuider(3.0, scorer="sag", threshold=0.9, every=2).guide(other)
    wanted = sampled(other, arguments(name))
    guider.save_pretrained(tmp_path)
    assert json.loads((tmp_path / "guider_config.json").read_text())["every"] == 2
    TokenRankGuider.from_pretrained(tmp_path).guide(other)
    assert torch.equal(sampled(other, arguments(name)), wanted)


class Failing(nn.Module):
    """A layer that raises instead of running."""

    def forward(self, *args, **kwargs):
        raise RuntimeError("boom")


@pytest.mark.parametrize("name", BLOCKS)
def test_nothing_stays_after_an_error(name):
    other = modular(BLOCKS[name], pipeline(name).components)
    TokenRankGuider(5.0).guide(other)
    before = traces(denoiser(other))
    last = other.transformer.proj_out
    other.transformer.proj_out = Failing()
    with pytest.raises(RuntimeError, match="boom"):
        sampled(other, arguments(name))
    other.transformer.proj_out = last
    assert traces(denoiser(other)) == before


@pytest.mark.parametrize("name", WITHOUT)
def test_without_a_guider_the_hook_guides_as_in_the_classic_pipeline(name):
    pipe = pipeline(name)
    if name == "flux":
        pipe.vae.register_to_config(shift_factor=0.1)  # its decoder adds it
    other = modular(WITHOUT[name], pipe.components)
    plain = sampled(other, arguments(name, guidance_scale=3.5))
    with pytest.raises(UnsupportedError, match=r"ModularPipeline takes no guider: guide it with SelfAtt"):
        TokenRankGuider().guide(other)
    with SelfAttentionGuidance()(pipe):
        wanted = sampled(pipe, arguments(name, guidance_scale=3.5))
    with SelfAttentionGuidance()(other) as guidance:
        found = sampled(other, arguments(name, guidance_scale=3.5))
    assert error(found, wanted) <= 1e-5
    assert error(found, plain) > 1e-3
    assert len(guidance.steps) == STEPS


def test_a_classic_pipeline_takes_no_guider():
    with pytest.raises(UnsupportedError, match="StableDiffusionPipeline takes no guider"):
        TokenRankGuider().guide(pipeline("sd"))


def shipped():
    """Every set of blocks of diffusers that makes a whole pipeline with a denoiser."""
    for name, blocks in inspect.getmembers(m, inspect.isclass):
        if name.endswith("Blocks") and issubclass(blocks, m.SequentialPipelineBlocks) and blocks().sub_blocks:
            parts = {spec.name: spec.type_hint for spec in blocks().expected_components}
            yield name, "guider" in parts, parts.get("unet") or parts["transformer"]


def test_every_modular_pipeline_of_diffusers_is_guided_or_refused():
    guided = set()
    for name, takes, cls in shipped():
        network = cls.__new__(cls)
        nn.Module.__init__(network)
        pipe = type(type(getattr(m, name)().init_pipeline()).__name__, (SimpleNamespace,), {})(
            component_names=["guider"] if takes else [],
            transformer=network,
            scheduler=d.FlowMatchEulerDiscreteScheduler(),
            update_components=lambda **guiders: None,
        )
        family = family_of(network)
        habits, known = habits_of(pipe), family is not None and family.calling is not None
        if takes and known and not (habits.refused or habits.mixes_more):
            TokenRankGuider().guide(pipe)
            guided.add(name)
            continue
        refusal = "cannot guide|mix more than" if takes else "no guider"
        with pytest.raises(UnsupportedError, match=refusal):
            TokenRankGuider().guide(pipe)
    assert guided == {
        "StableDiffusionXLAutoBlocks",
        "StableDiffusion3AutoBlocks",
        "QwenImageAutoBlocks",
        "QwenImageEditAutoBlocks",
        "QwenImageEditPlusAutoBlocks",
        "Flux2KleinBaseAutoBlocks",
        "Krea2AutoBlocks",
        "ZImageAutoBlocks",
        "ErnieImageAutoBlocks",
        "QwenImage21AutoBlocks",
        "Flux3AutoBlocks",
        "AnimaAutoBlocks",
        "WanBlocks",
        "WanImage2VideoAutoBlocks",
        "Wan22Blocks",
        "Wan22Image2VideoBlocks",
        "Wan22VaceBlocks",
        "LTXAutoBlocks",
        "HeliosAutoBlocks",
        "HunyuanVideo15AutoBlocks",
    }


def replay(name: str) -> tuple[Any, dict[str, Any]]:
    """A tiny pipeline's denoiser and scheduler, and the inputs of its second call."""
    pipe: Any = pipeline(name)
    with recorded(denoiser(pipe)) as calls:
        pipe(
            **ARGUMENTS[name](Call(cfg=False)),
            num_inference_steps=2,
            generator=torch.Generator().manual_seed(0),
        )
    return pipe, calls[1].inputs | {"return_dict": False}


def predicted(output):
    return output if isinstance(output, Tensor) else output[0]


class Loop:
    """A loop of one's own: what it calls from its methods is guided once guidance is enabled on it."""

    def __init__(self, pipe: Any) -> None:
        self.transformer, self.scheduler = denoiser(pipe), pipe.scheduler

    def predict(self, inputs: dict[str, Any]) -> Tensor:
        return predicted(self.transformer(**inputs))


def guided_pass(guider, model, inputs):
    """What a denoise loop of one's own does."""
    guider.set_state(1, 2, guider._scheduler.timesteps[1])
    guider.prepare_models(model)
    prediction = predicted(model(**inputs))
    guider.cleanup_models(model)
    return guider.forward(prediction).pred


@pytest.mark.parametrize(
    "name", ["sd", "pixart", "flux", "auraflow", "hunyuan", "lumina", "lumina2", "kandinsky", "kandinsky5"]
)
@torch.no_grad()
def test_in_blocks_of_ones_own_it_is_the_hook_on_every_family(name):
    pipe, inputs = replay(name)
    model = denoiser(pipe)
    plain = predicted(model(**inputs))
    loop = Loop(pipe)
    with SelfAttentionGuidance()(loop):
        wanted = loop.predict(inputs)
    guider = TokenRankGuider(1.0).bind(pipe.scheduler)
    found = guided_pass(guider, model, inputs)
    assert error(found, wanted) <= 1e-5
    assert error(found, plain) > 1e-4
    assert len(guider.steps) == 1


@torch.no_grad()
def test_a_reference_image_whose_tokens_stay_is_the_hooks():
    """Qwen-Image's editing blocks cut them off after guidance."""
    pipe, inputs = replay("qwen")
    tokens = inputs["hidden_states"]
    inputs |= {"hidden_states": torch.cat([tokens, tokens.flip(1)], 1), "img_shapes": [[(1, 8, 8)] * 2]}
    loop = Loop(pipe)
    with SelfAttentionGuidance()(loop):
        wanted = loop.predict(inputs)
    found = guided_pass(TokenRankGuider(1.0).bind(pipe.scheduler), pipe.transformer, inputs)
    assert found.shape[1] == 2 * tokens.shape[1]
    assert error(found, wanted) <= 1e-5
    assert error(found, predicted(pipe.transformer(**inputs))) > 1e-4


@torch.no_grad()
def test_layered_qwen_image_is_refused():
    pipe, inputs = replay("qwen")
    pipe.transformer.register_to_config(use_layer3d_rope=True)
    before = traces(pipe.transformer)
    with pytest.raises(UnsupportedError, match="QwenImageTransformer2DModel makes several layers at once"):
        guided_pass(TokenRankGuider(1.0).bind(pipe.scheduler), pipe.transformer, inputs)
    assert traces(pipe.transformer) == before
