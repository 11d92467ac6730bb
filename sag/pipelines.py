"""What a pipeline's class alone tells: how it lays out a batch, or why it cannot be guided."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tokenrank_guidance.errors import UnsupportedError


@dataclass(frozen=True)
class Habits:
    """How a pipeline calls its denoiser.

    `sample` is the local variable with what its scheduler steps, one row an image. Its batch holds parts of
    these rows one after the other, or row by row where `interleaved`; `unconditional` is the part without the
    prompt where there are three or more. The noisy channels come first, or last where `noisy_last`. Every run
    sets its scheduler's timesteps anew, which tells runs apart; one that `copies` schedulers within a run has
    its timesteps in the local variable of that name.
    `refused` says why it cannot be guided, empty where it can.
    """

    sample: str = "latents"
    interleaved: bool = False
    unconditional: int | None = None
    noisy_last: bool = False
    copies: bool = False
    refused: str = ""


PROCESSORS = "it works by attention processors of its own, which guidance neither sees into nor may replace"
PRECONDITIONED = (
    "what its scheduler is given is no output of its denoiser, but that scaled and added to the latents"
)
FIRST_FRAME = "its frames attend to the first one's keys, so that their maps are no chain"
BESIDE = (
    "it puts a picture beside the latents, on the same grid, which guidance would blur and rank with them"
)
IMAGES = Habits(sample="image")
STAGES = Habits(sample="intermediate_images")
MARIGOLD = Habits(sample="batch_pred_latent", noisy_last=True)
USUAL = Habits()
HABITS: dict[str, Habits] = {
    "DDPMPipeline": IMAGES,
    "DDIMPipeline": IMAGES,
    "PNDMPipeline": IMAGES,
    "RePaintPipeline": IMAGES,
    "ConsistencyModelPipeline": Habits(sample="sample"),
    "IFPipeline": STAGES,
    "IFImg2ImgPipeline": STAGES,
    "IFInpaintingPipeline": STAGES,
    "IFSuperResolutionPipeline": STAGES,
    "IFImg2ImgSuperResolutionPipeline": STAGES,
    "IFInpaintingSuperResolutionPipeline": STAGES,
    "MarigoldDepthPipeline": MARIGOLD,
    "MarigoldNormalsPipeline": MARIGOLD,
    "MarigoldIntrinsicsPipeline": MARIGOLD,
    "StableDiffusionPanoramaPipeline": Habits(sample="latents_for_view", interleaved=True, copies=True),
    "StableDiffusionInstructPix2PixPipeline": Habits(unconditional=2),
    "StableDiffusionXLInstructPix2PixPipeline": Habits(unconditional=2),
    "SemanticStableDiffusionPipeline": Habits(unconditional=0),
    "StableDiffusionPipelineSafe": Habits(unconditional=0),
    "StableDiffusionLatentUpscalePipeline": Habits(refused=PRECONDITIONED),
    "StableDiffusionSAGPipeline": Habits(refused="it is Self-Attention Guidance already"),
    "StableDiffusionAttendAndExcitePipeline": Habits(refused=PROCESSORS),
    "StableDiffusionPix2PixZeroPipeline": Habits(refused=PROCESSORS),
    "LEditsPPPipelineStableDiffusion": Habits(refused=PROCESSORS),
    "LEditsPPPipelineStableDiffusionXL": Habits(refused=PROCESSORS),
    "TextToVideoZeroPipeline": Habits(refused=FIRST_FRAME),
    "TextToVideoZeroSDXLPipeline": Habits(refused=FIRST_FRAME),
    "DreamLitePipeline": Habits(refused=BESIDE),
    "DreamLiteMobilePipeline": Habits(refused=BESIDE),
}


def habits_of(pipe: Any) -> Habits:
    """Those of the pipeline's class, or of its nearest base that is listed; else the usual ones.

    Raises UnsupportedError, with the reason, for a pipeline that cannot be guided.
    """
    listed = (HABITS[base.__name__] for base in type(pipe).__mro__ if base.__name__ in HABITS)
    habits = next(listed, USUAL)
    if habits.refused:
        raise UnsupportedError(f"cannot guide {type(pipe).__name__}: {habits.refused}")
    return habits
