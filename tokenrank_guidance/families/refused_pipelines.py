"""Pipelines of diffusers that are not guided whatever they denoise with, and why: by class name."""

EMBEDDINGS = "it makes embeddings for another pipeline, and no picture: guide that one"
SHAPES = "it makes 3-D shapes, whose latents are no grid of an image"
TEXT = "it makes text"
ONE_PASS = "it decodes or enlarges latents and denoises none that guidance could blur"
TWO_STAGES = "it samples in two stages that have a network and a scheduler each, of which guidance knows one"
SWAPPED = "its denoiser is built of two, image_unet and text_unet, whose blocks its pipelines exchange"
LAYERS = "it makes several layers of a picture at once, which guidance does not tell apart yet"
EXAMPLES = "it draws rows of pictures, examples among them, of which guidance would read the first row alone"
CYCLE = (
    "it denoises the source picture in the same batch, which the shift of the new one would change as well"
)
PARALLEL = "it denoises several timesteps in one batch, of which guidance knows one"
FLOW_MAP = (
    "its denoiser predicts where its next step leads, by which the image that all steps lead to is not known"
)
SLOTS = "it draws keyframes beside the video, whose tokens are no part of the grid of its frames"
UNSCHEDULED = "it steps without a scheduler, of which guidance asks how noisy its latents are"
STAGES = "its schedulers lead from stage to stage to noisy videos, not to a clean one"
ONNX = "its networks run in ONNX, out of sight of torch's hooks"

REFUSED_PIPELINES: dict[str, str] = {
    "FluxPriorReduxPipeline": EMBEDDINGS,
    "KandinskyPriorPipeline": EMBEDDINGS,
    "KandinskyV22PriorPipeline": EMBEDDINGS,
    "KandinskyV22PriorEmb2EmbPipeline": EMBEDDINGS,
    "ShapEPipeline": SHAPES,
    "ShapEImg2ImgPipeline": SHAPES,
    "DiffusionGemmaPipeline": TEXT,
    "LLaDA2Pipeline": TEXT,
    "LTXLatentUpsamplePipeline": ONE_PASS,
    "LTX2LatentUpsamplePipeline": ONE_PASS,
    "LTX2VideoDiffusionDecodePipeline": ONE_PASS,
    "UnCLIPPipeline": TWO_STAGES,
    "UnCLIPImageVariationPipeline": TWO_STAGES,
    "VersatileDiffusionPipeline": SWAPPED,
    "VersatileDiffusionDualGuidedPipeline": SWAPPED,
    "VersatileDiffusionImageVariationPipeline": SWAPPED,
    "VersatileDiffusionTextToImagePipeline": SWAPPED,
    "QwenImageLayeredPipeline": LAYERS,
    "QwenImageLayeredModularPipeline": LAYERS,
    "VisualClozePipeline": EXAMPLES,
    "VisualClozeGenerationPipeline": EXAMPLES,
    "CycleDiffusionPipeline": CYCLE,
    "StableDiffusionParadigmsPipeline": PARALLEL,
    "Flux3DistilledModularPipeline": FLOW_MAP,
    "LTX2DFRPipeline": SLOTS,
    "LTX2DFRTemporalRefinePipeline": SLOTS,
    "EchoModularPipeline": UNSCHEDULED,
    "HeliosPyramidPipeline": STAGES,
    "HeliosPyramidModularPipeline": STAGES,
    "HeliosPyramidDistilledModularPipeline": STAGES,
    "OnnxStableDiffusionPipeline": ONNX,
    "OnnxStableDiffusionImg2ImgPipeline": ONNX,
    "OnnxStableDiffusionInpaintPipeline": ONNX,
    "OnnxStableDiffusionInpaintPipelineLegacy": ONNX,
    "OnnxStableDiffusionUpscalePipeline": ONNX,
    "StableDiffusionOnnxPipeline": ONNX,
}
