"""Pipelines over known denoisers that no row tries yet: to become rows, and this file to go."""

OPEN: frozenset[str] = frozenset(
    """
    AltDiffusionImg2ImgPipeline AltDiffusionPipeline AnimaModularPipeline BlipDiffusionControlNetPipeline
    BlipDiffusionPipeline ConsisIDPipeline Cosmos2_5_TransferPipeline CycleDiffusionPipeline
    ErnieImageModularPipeline Flux2KleinBaseModularPipeline Flux2KleinModularPipeline Flux2ModularPipeline
    FluxKontextModularPipeline FluxModularPipeline HunyuanVideo15ModularPipeline Kandinsky5I2IPipeline
    KolorsImg2ImgPipeline KolorsPAGPipeline KolorsPipeline Krea2ModularPipeline Krea2TurboModularPipeline
    LDMPipeline LDMSuperResolutionPipeline LDMTextToImagePipeline
    LTXModularPipeline QwenImage21ModularPipeline QwenImage21TurboModularPipeline
    QwenImageEditModularPipeline QwenImageEditPlusModularPipeline QwenImageModularPipeline
    StableDiffusion3ModularPipeline StableDiffusionDiffEditPipeline StableDiffusionParadigmsPipeline
    StableDiffusionXLModularPipeline Wan22Image2VideoModularPipeline Wan22ModularPipeline
    Wan22VaceModularPipeline WanImage2VideoModularPipeline WanModularPipeline
    ZImageModularPipeline
    """.split()  # noqa: SIM905
)
