"""Which channels are noisy and which rows are one image: against the plain pipeline that must agree."""

import diffusers as d
import pytest
import torch

from sag import SelfAttentionGuidance
from tests.matrix import beside
from tests.matrix.building import IMAGE, Row, quiet, run, square_unet, variant
from tests.matrix.rows import LATENTS
from tests.sag.helpers import count_calls
from tests.tiny_models import Call, pipeline
from tokenrank_guidance import UnsupportedError
from tokenrank_guidance.markov import deferred

STEPS = 3
LIKE = {"latents": LATENTS}


def noises(images):
    return torch.randn(images, 4, 16, 16, generator=torch.Generator().manual_seed(5))


def drawn(pipe, arguments, scale=0.75):
    """Guided latents, with the contrast left alone; on the way the right rows or channels decide all."""
    with SelfAttentionGuidance(sag_scale=scale, keep_contrast=0.0)(pipe) as guidance:
        images = run(pipe, arguments | {"num_inference_steps": STEPS})
    assert {step.number for step in guidance.steps} == (set(range(STEPS)) if scale else set())
    return images


def plain_unet(wide, channels=slice(4)):
    """The UNet with the noisy channels' weights alone."""
    config = dict(wide.config) | {"in_channels": 4 if wide.config.in_channels != 6 else 3}
    config.pop("_use_default_values", None)
    unet = d.UNet2DConditionModel.from_config(config).eval()
    state = dict(wide.state_dict())
    state["conv_in.weight"] = state["conv_in.weight"][:, channels]
    unet.load_state_dict(state)
    return unet


def blind(channels, extra, family="sd"):
    return beside.blind(square_unet(family, channels), extra)


def assert_alike(pipe, given, plain, wanted, tolerance=5e-5):
    """The same guided images, and the same unguided ones; guidance changes them by far more."""
    unguided = drawn(plain, wanted, scale=0)
    expected = drawn(plain, wanted)
    torch.testing.assert_close(drawn(pipe, given, scale=0), unguided, rtol=0, atol=tolerance)
    torch.testing.assert_close(drawn(pipe, given), expected, rtol=0, atol=tolerance)
    assert (expected - unguided).abs().max() > 20 * tolerance


def call(images, cfg=True):
    return Call(cfg=cfg, batch=images)


@pytest.mark.parametrize("cfg", [True, False])
def test_a_depth_map_beside_the_latents_is_not_blurred(cfg):
    unet = blind(5, slice(4, None))
    plain = variant("sd", d.StableDiffusionImg2ImgPipeline, unet=plain_unet(unet))
    shared = beside.pictured(call(1, cfg)) | {"strength": 1.0}
    given = shared | {"depth_map": torch.rand(1, 32, 32)}
    assert_alike(beside.depth_to_image(unet), given, plain, shared)


@pytest.mark.parametrize("cfg", [True, False])
def test_a_low_resolution_picture_beside_the_latents_is_not_blurred(cfg):
    unet = blind(7, slice(4, None))
    plain = variant("sd", d.StableDiffusionPipeline, unet=plain_unet(unet))
    given = beside.text(call(1, cfg)) | {"image": IMAGE[..., ::2, ::2]} | LIKE
    assert_alike(beside.upscaler(unet), given, plain, beside.sized(call(1, cfg)) | LIKE)


@pytest.mark.parametrize("family", ["sd", "sdxl"])
def test_three_parts_and_a_picture_of_instruct_pix2pix(family):
    """Its second part, the picture under the negative prompt, is its third once the picture is ignored."""
    unet = blind(8, slice(4, None), family)
    cls = d.StableDiffusionXLPipeline if family == "sdxl" else d.StableDiffusionPipeline
    plain = variant(family, cls, unet=plain_unet(unet))
    size = {"height": 32, "width": 32}
    given = beside.pictured(call(2)) | {"latents": noises(2)} | (size if family == "sdxl" else {})
    wanted = beside.sized(call(2)) | {"latents": noises(2)}
    assert_alike(beside.edited(family, unet), given, plain, wanted, tolerance=1e-4)


@pytest.mark.parametrize("cls", [d.MarigoldDepthPipeline, d.MarigoldNormalsPipeline])
def test_marigolds_noisy_latents_come_last(cls):
    unet = blind(8, slice(0, 4))
    pipe = beside.marigold(cls, unet)
    plain = variant(
        "sd", d.StableDiffusionPipeline, unet=plain_unet(unet, slice(4, None)), scheduler=pipe.scheduler
    )
    wanted = {"guidance_scale": 1.0, "height": 32, "width": 32, "output_type": "latent"} | LIKE
    latents = {}
    for scale in (0.0, 0.75):
        with SelfAttentionGuidance(sag_scale=scale, keep_contrast=0.0)(pipe):
            out = pipe(**beside.seen(call(1)), **LIKE, num_inference_steps=STEPS, output_latent=True)
        latents[scale] = out.latent
        wanted["prompt_embeds"] = pipe.empty_text_embedding  # unpadded
        torch.testing.assert_close(latents[scale], drawn(plain, wanted, scale), rtol=0, atol=2e-5)
    assert (latents[0.75] - latents[0.0]).abs().max() > 1e-2


@pytest.mark.parametrize("cfg", [True, False])
def test_the_low_resolution_picture_of_ifs_second_stage_is_not_blurred(cfg):
    unet = beside.blind(beside.stage_unet(6), slice(3, None))
    plain = beside.stage(d.IFPipeline, plain_unet(unet, slice(3)))
    given, wanted = beside.enlarged(call(2, cfg)), beside.embedded(call(2, cfg))
    assert_alike(beside.stage(d.IFSuperResolutionPipeline, unet), given, plain, wanted)


@pytest.mark.parametrize("prompts", [0, 1, 2])
def test_editing_prompts_of_no_weight_change_nothing(prompts):
    pipe = beside.semantic()
    plain = variant("sd", d.StableDiffusionPipeline, unet=pipe.unet)
    edits = {
        "editing_prompt": ["a hat"] * prompts or None,
        "edit_guidance_scale": 0.0,
        "edit_warmup_steps": 0,
    }
    wanted = beside.sized(call(1)) | LIKE
    assert_alike(pipe, wanted | edits, plain, wanted)


@pytest.mark.filterwarnings("ignore:Safety checker disabled:UserWarning", "ignore:The decode_latents")
@pytest.mark.parametrize("scale", [0.0, 1000.0])
def test_safety_that_begins_after_the_last_step_changes_nothing(scale):
    pipe = beside.safe()
    plain = variant("sd", d.StableDiffusionPipeline, unet=pipe.unet)
    wanted = beside.sized(call(1)) | LIKE | {"output_type": "np"}  # it decodes in any case
    given = wanted | {"sld_guidance_scale": scale, "sld_warmup_steps": 99, "sld_momentum_scale": 0.0}
    assert_alike(pipe, given, plain, wanted)


def panorama(columns=64, **options):
    """64×64 latents are one view, 64×72 are two."""
    pipe = beside.panorama()
    latents = torch.randn(1, 4, 64, columns, generator=torch.Generator().manual_seed(5))
    size = {"height": 512, "width": 8 * columns}
    return pipe, beside.sized(call(1)) | size | {"latents": latents} | options


@pytest.mark.matrix
def test_a_panorama_of_one_view_is_the_plain_image():
    pipe, given = panorama()
    plain = variant("sd", d.StableDiffusionPipeline, unet=pipe.unet, vae=pipe.vae)
    assert_alike(pipe, given, plain, given)


@pytest.mark.matrix
def test_views_of_a_panorama_do_not_depend_on_their_batch():
    images = [drawn(*panorama(72, view_batch_size=size)) for size in (1, 2)]
    torch.testing.assert_close(*images, rtol=0, atol=1e-4)


@pytest.mark.extended
def test_each_view_of_a_panorama_reuses_its_own_shift():
    """It copies its scheduler for every view, in every step."""
    pipe, given = panorama(72, num_inference_steps=2)
    calls = {}
    for reuse in (1, 2):
        with SelfAttentionGuidance(reuse=reuse)(pipe) as guidance:
            _, calls[reuse] = count_calls(pipe.unet, lambda: run(pipe, given))
        steps = [step.number for step in guidance.steps]
        assert steps == [number for number in range(0, 2, reuse) for _ in range(2)]
    assert calls == {1: 8, 2: 6}


@pytest.mark.extended
def test_no_view_of_a_panorama_reuses_the_shift_of_noise_alone():
    pipe, given = panorama(72, num_inference_steps=3)
    zero = {"rescale_betas_zero_snr": True, "timestep_spacing": "trailing", "prediction_type": "v_prediction"}
    pipe.scheduler = d.DDIMScheduler.from_config(pipe.scheduler.config, **zero)
    with SelfAttentionGuidance(reuse=3)(pipe) as guidance:
        run(pipe, given)
    assert [(step.number, step.noise_alone) for step in guidance.steps] == [(0, True)] * 2 + [(1, False)] * 2


class Editor(d.StableDiffusionInstructPix2PixPipeline):
    """What is known of a pipeline is known of those made from it."""


def test_what_is_known_of_a_pipeline_holds_for_its_subclasses():
    parts = beside.edited("sd").components
    given = beside.pictured(call(1)) | LIKE
    pipe = quiet(Editor(**parts, requires_safety_checker=False))
    assert torch.equal(drawn(pipe, given), drawn(beside.edited("sd"), given))


class FourParts(d.StableDiffusionPipeline):
    """Its denoiser is given every image four times, which guidance knows nothing of."""

    def __call__(self, prompt, latents, num_inference_steps, generator=None):
        states = self.encode_prompt(prompt, "cpu", 1, True)[0].repeat(4, 1, 1)
        self.scheduler.set_timesteps(num_inference_steps)
        with torch.no_grad():
            for t in self.scheduler.timesteps:
                out = self.unet(torch.cat([latents] * 4), t, encoder_hidden_states=states).sample
                latents = self.scheduler.step(out.chunk(4)[0], t, latents).prev_sample
        return (latents,)


def test_parts_that_nothing_is_known_of_are_refused():
    pipe = FourParts(**pipeline("sd").components, requires_safety_checker=False)
    with (
        SelfAttentionGuidance()(pipe),
        pytest.raises(UnsupportedError, match="each image 4 times, and which"),
    ):
        pipe("a red box", LATENTS, 2)


@pytest.mark.parametrize("name", ["StableDiffusionUpscale", "IF"])
def test_two_images_of_one_noise_are_two_images(name):
    """Without classifier-free guidance, where the pipeline's batch looks like two halves."""
    row: Row = beside.BESIDE_ROWS[name]
    pipe = row.build()
    both = row.arguments(Call(cfg=False, batch=2, steps=STEPS))
    seeds = [torch.Generator().manual_seed(5) for _ in range(2)]
    with SelfAttentionGuidance(keep_contrast=0.0)(pipe) as guidance:
        pipe(**both, generator=seeds)
    assert [len(step.score) for step in guidance.steps] == [2] * STEPS


def test_latents_that_are_not_finite_are_said_to_be():
    pipe = pipeline("sd")
    for cfg in (True, False):
        given = beside.sized(call(1, cfg)) | {"latents": LATENTS.clone().fill_(torch.nan)}
        with (
            SelfAttentionGuidance()(pipe),
            pytest.raises(
                ValueError, match=r"not finite at step 1 of 2 \(timestep 501\), usually by overflow"
            ),
        ):
            pipe(**given, num_inference_steps=2)


@pytest.mark.parametrize(("spoilt", "noticed"), [(0, 0), (1, 2), (3, 3)])
def test_they_are_where_the_host_does_not_wait_for_the_scores(spoilt, noticed, monkeypatch):
    """As on a GPU: said one step later, but of the first guided step and of the last at once."""
    monkeypatch.setattr(deferred, "defers", lambda device: deferred._deferred() is not None)
    pipe, calls = pipeline("sd"), []

    def spoil(module, args):
        calls.append(None)
        if len(calls) == 2 * spoilt + 1:  # guidance calls it once more in each step
            args[0].fill_(torch.nan)

    pipe.unet.register_forward_pre_hook(spoil)
    message = rf"latents are not finite at step {spoilt + 1} of 4 "
    with SelfAttentionGuidance()(pipe), pytest.raises(ValueError, match=message):
        pipe(**beside.sized(call(1, True)), num_inference_steps=4)
    assert (len(calls) - 1) // 2 == noticed


REFUSED = {
    d.StableDiffusionSAGPipeline: "it is Self-Attention Guidance already",
    d.StableDiffusionAttendAndExcitePipeline: "attention processors of its own",
    d.StableDiffusionPix2PixZeroPipeline: "attention processors of its own",
    d.LEditsPPPipelineStableDiffusion: "attention processors of its own",
    d.TextToVideoZeroPipeline: "attend to the first one's keys",
    d.DreamLitePipeline: "a picture beside the latents, on the same grid",
}


@pytest.mark.parametrize("cls", REFUSED)
def test_pipelines_that_cannot_be_guided_say_why(cls):
    pipe = cls.__new__(cls)
    unet = pipeline("sd").unet
    object.__setattr__(pipe, "unet", unet)
    object.__setattr__(pipe, "scheduler", d.DDIMScheduler())
    with pytest.raises(UnsupportedError, match=f"cannot guide {cls.__name__}: .*{REFUSED[cls]}"):
        SelfAttentionGuidance().enable(pipe)
