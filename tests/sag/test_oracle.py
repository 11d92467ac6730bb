"""The hook against diffusers' own Self-Attention Guidance pipeline, and against each paper's formula."""

from itertools import product

import diffusers
import pytest
import torch
from diffusers.pipelines.deprecated.stable_diffusion_sag import StableDiffusionSAGPipeline

from sag import SelfAttentionGuidance
from tests.tiny_models import NEGATIVE, PROMPT, pipeline

TOLERANCE = {torch.float64: 1e-6, torch.float32: 1e-4}
PREDICTIONS = ("epsilon", "sample", "v_prediction")


def scheduler(prediction: str) -> diffusers.DDIMScheduler:
    return diffusers.DDIMScheduler(
        beta_schedule="scaled_linear",
        beta_start=0.00085,
        beta_end=0.012,
        clip_sample=False,
        steps_offset=1,
        prediction_type=prediction,
    )


def reference(pipe: diffusers.StableDiffusionPipeline) -> StableDiffusionSAGPipeline:
    names = ("vae", "text_encoder", "tokenizer", "unet", "scheduler")
    parts = {name: pipe.components[name] for name in names}
    oracle = StableDiffusionSAGPipeline(
        **parts, safety_checker=None, feature_extractor=None, requires_safety_checker=False
    )
    oracle.set_progress_bar_config(disable=True)
    return oracle


def arguments(guidance_scale: float) -> dict[str, object]:
    return {
        "prompt": [PROMPT, "a blue cat"],
        "negative_prompt": [NEGATIVE, NEGATIVE],
        "height": 32,
        "width": 32,
        "num_inference_steps": 5,
        "guidance_scale": guidance_scale,
        "generator": torch.Generator().manual_seed(3),
        "output_type": "latent",
    }


@pytest.mark.parametrize(
    ("prediction", "guidance_scale", "dtype"),
    [
        *((prediction, 5.0, torch.float64) for prediction in PREDICTIONS),
        ("epsilon", 1.0, torch.float64),
        ("v_prediction", 5.0, torch.float32),
        *(
            pytest.param(*case, marks=pytest.mark.matrix)
            for case in product(PREDICTIONS, (1.0, 5.0), TOLERANCE)
        ),
    ],
)
def test_sag_equals_diffusers_pipeline(dtype, prediction, guidance_scale):
    pipe = pipeline("sd", scheduler=scheduler(prediction), dtype=dtype)
    unguided = pipe(**arguments(guidance_scale)).images
    expected = reference(pipe)(**arguments(guidance_scale), sag_scale=0.75).images
    with SelfAttentionGuidance(scorer="sag", sag_scale=0.75, keep_contrast=0.0)(pipe):
        guided = pipe(**arguments(guidance_scale)).images
    size = expected.abs().max().clamp(min=1)
    assert (guided - expected).abs().max() / size <= TOLERANCE[dtype]
    assert (guided - unguided).abs().max() > 1e-3


def test_tokenrank_is_another_guidance_than_sag():
    pipe = pipeline("sd", scheduler=scheduler("epsilon"), dtype=torch.float64)
    images = {}
    for scorer in ("sag", "tokenrank"):
        with SelfAttentionGuidance(scorer=scorer)(pipe) as guidance:
            images[scorer] = pipe(**arguments(5.0)).images
        assert all(torch.allclose(s.score.mean((1, 2)), s.score.new_ones(2)) for s in guidance.steps)
    assert (images["sag"] - images["tokenrank"]).abs().max() > 1e-3
