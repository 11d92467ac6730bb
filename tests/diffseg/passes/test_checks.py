"""What `from_pipe` accepts can be segmented with, and what it refuses it refuses for the true reason."""

import inspect
import re

import diffusers as d
import pytest
import torch
from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution

from diffseg import DiffSeg, Settings
from diffseg.passes.denoise import denoiser_pass
from diffseg.zero_shot import Generate, segment
from tests import tiny_networks as tiny
from tests.diffseg.helpers import image
from tests.matrix.building import seeded, square_unet, variant
from tests.matrix.preparing import add_ip_adapter
from tests.matrix.rows import ROWS
from tests.tiny_models import Call, denoiser, pipeline
from tests.tiny_readers import deepened
from tokenrank_guidance import UnsupportedError
from tokenrank_guidance.components import denoiser_of
from tokenrank_guidance.families.registry import family_of

TEXTUAL = ("sd", "sdxl", "sd3", "flux", "pixart")
CONDITIONED = r"its denoiser takes \d+ channels, an image gives \d+; the others hold"
NO_PROMPT = "it has no encode_prompt"
WITHOUT_TEXT = "it was loaded without its tokenizer, text_encoder"
EMBEDDINGS = "its UNet takes '(image|text_image|image_hint)' embeddings, which are not supported"
ALPHAS = "has no alphas_cumprod|reads no text"
REFUSED = {
    **dict.fromkeys(("StableDiffusionDepth2Img", "StableDiffusionUpscale"), CONDITIONED),
    **dict.fromkeys(("StableDiffusionLatentUpscale", "StableDiffusionInstructPix2Pix"), CONDITIONED),
    **dict.fromkeys(("StableDiffusionXLInstructPix2Pix", "PaintByExample"), CONDITIONED),
    **dict.fromkeys(("MarigoldDepth", "MarigoldNormals", "MarigoldIntrinsics"), CONDITIONED),
    **dict.fromkeys(("FluxControl", "FluxControlImg2Img", "FluxControlInpaint"), CONDITIONED),
    **dict.fromkeys(("CogView4Control", "HunyuanImageRefiner", "HunyuanImageRefiner, guider"), CONDITIONED),
    **dict.fromkeys(
        ("QwenImageEdit", "QwenImageEditPlus", "QwenImageEditInpaint", "LongCatImageEdit"),
        "its captions are read together with",
    ),
    "LDMSuperResolution": f"{CONDITIONED}|reads no text",
    **dict.fromkeys(
        ("ZImageOmni", "ZImageOmni, reference image"), "its captions are parts around reference pictures"
    ),
    **dict.fromkeys(("SemanticStableDiffusion", "StableDiffusionSafe", "Krea2TurboModular"), NO_PROMPT),
    **dict.fromkeys(("StableDiffusionImageVariation", "LDMTextToImage"), NO_PROMPT),
    **dict.fromkeys(("StableUnCLIP", "StableUnCLIPImg2Img"), "its UNet takes class embeddings"),
    **dict.fromkeys(("SanaSprint", "SanaSprintImg2Img", "ConsistencyModel"), ALPHAS),
    **dict.fromkeys(("BlipDiffusion", "BlipDiffusionControlNet"), "its encode_prompt wants query_embeds too"),
}
GROUPS = {"IF": WITHOUT_TEXT, r"Kandinsky(?!\d)": EMBEDDINGS}  # by how a name begins
RUN = [
    name for name, row in ROWS.items() if row.family != "none" and not name.endswith("Legacy")
]  # deprecated


def reason_of(name, pipe):
    """Why a row's pipeline takes no picture; None where it does."""
    family = family_of(denoiser_of(pipe))
    if family is None or family.picture is None:
        return f"cannot segment with {type(denoiser_of(pipe)).__name__}: how a picture is put into it"
    own = [reason for start, reason in GROUPS.items() if re.match(start, name)]
    return REFUSED.get(name, own[0] if own else None)


EMPTY = torch.zeros(1, 1, 32, 32)


def given_to_denoiser(pipe, run):
    """The inputs by name of the last call of the denoiser, while `run` runs."""
    seen = {}
    handle = denoiser(pipe).register_forward_pre_hook(
        lambda module, args, inputs: seen.update(inputs | ({"sample": args[0]} if args else {})),
        with_kwargs=True,
    )
    run()
    handle.remove()
    return seen


def marked(names):
    """The first row of each family, and of each reason to refuse one, runs by default."""
    seen = set()
    for name in names:
        reason = REFUSED.get(name) or next(
            (why for start, why in GROUPS.items() if re.match(start, name)), None
        )
        kind = (ROWS[name].family, reason)
        yield pytest.param(name, marks=[pytest.mark.matrix] if kind in seen else [])
        seen.add(kind)


@pytest.mark.parametrize("name", list(marked(RUN)))
def test_rows_of_the_matrix_are_segmented_or_refused_by_from_pipe_and_by_segment(name):
    pipe = ROWS[name].build()
    pipe = deepened(pipe) if name.startswith("Flux2") else pipe
    reason = reason_of(name, pipe)
    if reason is not None:
        wordless = getattr(family_of(denoiser_of(pipe)), "wordless", "")
        for call, why in (
            (DiffSeg.from_pipe, reason),
            (lambda pipe: segment(pipe, image(8, 8), ["box"]), wordless or reason),
        ):
            with pytest.raises(UnsupportedError, match=why):
                call(pipe)
        return
    caption = "a box" if ROWS[name].family in TEXTUAL else None
    found = DiffSeg.from_pipe(pipe, resolution=16, num_anchors=4)(image(16, 24), caption=caption)
    assert found.labels.shape == (16, 24) and torch.isfinite(found.masks).all()
    if ROWS[name].family in ("sd", "sdxl", "sd3", "flux"):
        heats = segment(pipe, image(16, 24), ["box"], caption, resolution=16, draws=1, head_weights="mean")
        assert torch.isfinite(heats.heats).all()


@pytest.mark.parametrize("name", ["StableDiffusionInpaint", "StableDiffusionXLInpaint", "FluxFill"])
def test_inpainting_models_see_what_their_pipelines_show_them_with_an_empty_mask(name, monkeypatch):
    monkeypatch.setattr(DiagonalGaussianDistribution, "sample", lambda self, generator=None: self.mode())
    row = ROWS[name]
    pipe, picture = row.build(), image(32, 32)
    if row.family != "flux":
        pipe.vae.register_to_config(shift_factor=None)  # which these pipelines do not look at
    arguments = row.arguments(Call(cfg=False, steps=2)) | {"image": picture[None], "mask_image": EMPTY}
    theirs = given_to_denoiser(pipe, lambda: pipe(**arguments))
    ours = given_to_denoiser(pipe, lambda: denoiser_pass(pipe, picture, Settings(resolution=32)))
    axis, kept, key = (1, 4, "sample") if "sample" in ours else (2, 16, "hidden_states")
    extra = [seen[key].narrow(axis, kept, seen[key].shape[axis] - kept) for seen in (ours, theirs)]
    torch.testing.assert_close(*extra)
    assert extra[0].abs().max() > 0


def changed(network, **changes):
    """The same with another configuration."""
    config = dict(network.config) | changes
    config.pop("_use_default_values", None)  # would bring back what was changed
    return seeded(lambda: type(network).from_config(config))


def inpainting(family):
    """The family's inpainting pipeline, whose network does nothing with the mask, and the plain one."""
    if family == "flux":
        return ROWS["FluxFill"].build(), "x_embedder.weight", d.FluxPipeline
    if family == "sd3":
        network = changed(tiny.sd3(), in_channels=9)
        pipe = variant("sd3", d.StableDiffusion3InpaintPipeline, transformer=network)
        return pipe, "pos_embed.proj.weight", d.StableDiffusion3Pipeline
    name = {"sd": "StableDiffusionInpaint", "sdxl": "StableDiffusionXLInpaint"}[family]
    return ROWS[name].build(), "conv_in.weight", type(pipeline(family))


@pytest.mark.parametrize("family", ["sd", "sdxl", "sd3", "flux"])
def test_a_network_that_ignores_its_mask_segments_as_the_plain_one(family):
    pipe, weight, cls = inpainting(family)
    network = denoiser(pipe)
    kept = 16 if family == "flux" else 4
    network.get_parameter(weight).data[:, kept:] = 0
    small = changed(network, in_channels=kept)
    small.load_state_dict(network.state_dict() | {weight: network.get_parameter(weight).data[:, :kept]})
    part = "transformer" if family in ("sd3", "flux") else "unet"
    other = variant(family, cls, **(pipe.components | {part: small}))
    changes = {"resolution": 32, "num_anchors": 16, "add_noise": True}
    found, expected = (DiffSeg.from_pipe(one, **changes)(image(32, 48)) for one in (pipe, other))
    assert torch.equal(found.labels, expected.labels)
    torch.testing.assert_close(found.masks, expected.masks)


def test_the_refiner_gets_the_scores_that_its_pipeline_gives():
    row = ROWS["StableDiffusionXLImg2Img, refiner"]
    pipe = row.build()
    theirs = given_to_denoiser(pipe, lambda: pipe(**row.arguments(Call(steps=2))))
    for caption, half in (("", 0), ("a box", 1)):
        ours = given_to_denoiser(
            pipe, lambda text=caption: denoiser_pass(pipe, image(32, 32), Settings(resolution=32), text)
        )
        found, expected = (seen["added_cond_kwargs"]["time_ids"] for seen in (ours, theirs))
        assert found[0].tolist() == expected[half].tolist()


def without(name, **parts):
    pipe = pipeline(name)
    pipe.register_modules(**parts)
    return pipe


def of_pixels(**changes):
    return d.DDPMPipeline(changed(tiny.unet_unconditional((16, 16)), **changes), d.DDPMScheduler())


def of_parts(cls, **parts):
    """A pipeline of Stable Diffusion's components and others."""
    components = pipeline("sd").components | parts
    return cls(**{name: components[name] for name in inspect.signature(cls).parameters if name in components})


def plain(family="sd", **parts):
    cls = {"sd": d.StableDiffusionPipeline, "sdxl": d.StableDiffusionXLPipeline}[family]
    return variant(family, cls, **parts)


CASES = {
    "depth": (
        lambda: of_parts(d.StableDiffusionDepth2ImgPipeline, unet=square_unet("sd", 5), depth_estimator=None),
        "takes 5 channels, an image gives 4; the others hold a condition",
    ),
    "upscaler": (
        lambda: of_parts(
            d.StableDiffusionUpscalePipeline,
            unet=square_unet("sd", 7),
            low_res_scheduler=d.DDPMScheduler(),
            vae=changed(tiny.vae(), scaling_factor=0.08333),
        ),
        "takes 7 channels, an image gives 4; the others hold a condition",
    ),
    "latent upscaler": (
        lambda: of_parts(d.StableDiffusionLatentUpscalePipeline, unet=square_unet("sd", 8)),
        "takes 8 channels, an image gives 4; the others hold a condition",
    ),
    "Marigold": (
        lambda: of_parts(d.MarigoldDepthPipeline, unet=square_unet("sd", 8)),
        "takes 8 channels, an image gives 4; the others hold a condition",
    ),
    "InstructPix2Pix, XL": (
        lambda: variant("sdxl", d.StableDiffusionXLInstructPix2PixPipeline, unet=square_unet("sdxl", 8)),
        "takes 8 channels, an image gives 4; the others hold a condition",
    ),
    "no inpainting pipeline": (
        lambda: plain(unet=square_unet("sd", 9)),
        "takes 9 channels, an image gives 4; the others hold a condition",
    ),
    "refiner's UNet alone": (
        lambda: plain("sdxl", unet=ROWS["StableDiffusionXLImg2Img, refiner"].build().unet),
        "its UNet takes 56 numbers of sizes and pooled text, the pipeline makes 64",
    ),
    "IF": (
        lambda: plain(unet=changed(square_unet("sd", 4), addition_embed_type="text")),
        "its UNet takes 'text' embeddings, which are not supported",
    ),
    "classes": (
        lambda: plain(unet=changed(square_unet("sd", 4), num_class_embeds=7)),
        "its UNet takes class embeddings, of which no neutral one is known here",
    ),
    "classes of pixels": (lambda: of_pixels(num_class_embeds=7), "its UNet takes class embeddings"),
    "grey": (lambda: of_pixels(in_channels=1, out_channels=1), "takes 1 channels, an image gives 3$"),
    "sound": (
        lambda: plain(unet=square_unet("sd", 4), vae=changed(tiny.vae(), in_channels=1)),
        "its autoencoder encodes 1 channels, a picture has 3",
    ),
    "SEGA": (
        lambda: of_parts(d.SemanticStableDiffusionPipeline, unet=square_unet("sd", 4)),
        "it has no encode_prompt, which gives the text of a caption or of none",
    ),
    "FLUX without T5": (
        lambda: without("flux", text_encoder_2=None, tokenizer_2=None),
        "it was loaded without its text_encoder_2, tokenizer_2",
    ),
    "no autoencoder": (lambda: without("sd", vae=None), "it was loaded without its vae"),
    "EDM": (
        lambda: without("sdxl", scheduler=d.EDMEulerScheduler()),
        "EDMEulerScheduler has no alphas_cumprod, which tell the noise of a timestep",
    ),
    "IP-Adapter": (
        lambda: add_ip_adapter(pipeline("sd")),
        r"its IP-Adapter wants a picture; call unload_ip_adapter\(\) first",
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_other_pipelines_are_refused_with_the_reason(name):
    build, reason = CASES[name]
    pipe = build()
    with pytest.raises(UnsupportedError, match=reason) as caught:
        DiffSeg.from_pipe(pipe)
    assert "\n" not in str(caught.value) and type(pipe).__name__ in str(caught.value)


def test_what_is_loaded_later_is_refused_too():
    pipe = pipeline("sd")
    segmenter = DiffSeg.from_pipe(pipe, resolution=32)
    add_ip_adapter(pipe)
    with pytest.raises(UnsupportedError, match=r"call unload_ip_adapter\(\) first"):
        segmenter(image(32, 32))


@pytest.mark.parametrize(
    "name",
    [
        "StableDiffusionInpaint",
        "StableDiffusionControlNet",
        "StableDiffusionAdapter",
        "StableDiffusion3ControlNet",
        "FluxImg2Img",
        "FluxFill",
    ],
)
def test_drawing_with_a_pipeline_that_draws_from_a_picture(name):
    with pytest.raises(UnsupportedError, match=r"cannot draw from a prompt alone, it takes (control_)?image"):
        segment(ROWS[name].build(), Generate("a box", steps=1), ["box"])
