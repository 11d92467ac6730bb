"""Pipelines over known denoisers that no row tries yet: to become rows, and this file to go."""

OPEN: frozenset[str] = frozenset(
    """
    AltDiffusionImg2ImgPipeline AltDiffusionPipeline BlipDiffusionControlNetPipeline BlipDiffusionPipeline
    CycleDiffusionPipeline Flux2KleinBaseModularPipeline Flux2KleinModularPipeline Flux2ModularPipeline
    FluxKontextModularPipeline FluxModularPipeline HunyuanDiTPAGPipeline Kandinsky5I2IPipeline
    Kandinsky5I2VPipeline Kandinsky5T2VPipeline KandinskyCombinedPipeline KandinskyImg2ImgCombinedPipeline
    KandinskyImg2ImgPipeline KandinskyInpaintCombinedPipeline KandinskyInpaintPipeline KandinskyPipeline
    KandinskyV22CombinedPipeline KandinskyV22ControlnetImg2ImgPipeline KandinskyV22ControlnetPipeline
    KandinskyV22Img2ImgCombinedPipeline KandinskyV22Img2ImgPipeline KandinskyV22InpaintCombinedPipeline
    KolorsImg2ImgPipeline KolorsPAGPipeline KolorsPipeline LDMPipeline LDMSuperResolutionPipeline
    LDMTextToImagePipeline PixArtSigmaPAGPipeline QwenImageEditModularPipeline
    QwenImageEditPlusModularPipeline QwenImageModularPipeline StableDiffusion3ModularPipeline
    StableDiffusion3PAGImg2ImgPipeline StableDiffusion3PAGPipeline
    StableDiffusionControlNetPAGInpaintPipeline StableDiffusionControlNetPAGPipeline
    StableDiffusionDiffEditPipeline StableDiffusionPAGImg2ImgPipeline StableDiffusionPAGInpaintPipeline
    StableDiffusionParadigmsPipeline StableDiffusionXLControlNetPAGImg2ImgPipeline
    StableDiffusionXLControlNetPAGPipeline StableDiffusionXLModularPipeline
    StableDiffusionXLPAGImg2ImgPipeline StableDiffusionXLPAGInpaintPipeline StableDiffusionXLPAGPipeline
    """.split()  # noqa: SIM905
)
