"""Pipelines over known denoisers that no row tries yet: to become rows, and this file to go."""

OPEN: frozenset[str] = frozenset(
    """
    AltDiffusionImg2ImgPipeline AltDiffusionPipeline BlipDiffusionControlNetPipeline BlipDiffusionPipeline
    CycleDiffusionPipeline ErnieImageModularPipeline Flux2KleinBaseModularPipeline Flux2KleinModularPipeline
    Flux2ModularPipeline FluxKontextModularPipeline FluxModularPipeline Kandinsky5I2IPipeline
    Kandinsky5I2VPipeline Kandinsky5T2VPipeline KolorsImg2ImgPipeline KolorsPAGPipeline KolorsPipeline
    Krea2ModularPipeline Krea2TurboModularPipeline LDMPipeline LDMSuperResolutionPipeline
    LDMTextToImagePipeline QwenImage21ModularPipeline QwenImage21TurboModularPipeline
    QwenImageEditModularPipeline QwenImageEditPlusModularPipeline QwenImageModularPipeline
    StableDiffusion3ModularPipeline StableDiffusionDiffEditPipeline StableDiffusionParadigmsPipeline
    StableDiffusionXLModularPipeline ZImageModularPipeline
    """.split()  # noqa: SIM905
)
