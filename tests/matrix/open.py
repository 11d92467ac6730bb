"""Pipelines over known denoisers that no row tries yet: to become rows, and this file to go."""

OPEN: frozenset[str] = frozenset(
    """
    AltDiffusionImg2ImgPipeline AltDiffusionPipeline AnimaModularPipeline
    BlipDiffusionControlNetPipeline BlipDiffusionPipeline ConsisIDPipeline
    Cosmos2_5_TransferPipeline CycleDiffusionPipeline ErnieImageModularPipeline
    Flux2KleinBaseModularPipeline Flux2KleinModularPipeline Flux2ModularPipeline
    Flux3DistilledModularPipeline Flux3ModularPipeline FluxKontextModularPipeline
    FluxModularPipeline HunyuanVideo15ImageToVideoPipeline HunyuanVideo15ModularPipeline
    Kandinsky5I2IPipeline KolorsImg2ImgPipeline KolorsPAGPipeline KolorsPipeline
    Krea2ModularPipeline Krea2TurboModularPipeline LDMPipeline LDMSuperResolutionPipeline
    LDMTextToImagePipeline LTXI2VLongMultiPromptPipeline LTXModularPipeline
    MotifVideoImage2VideoPipeline QwenImage21ModularPipeline QwenImage21TurboModularPipeline
    QwenImageEditModularPipeline QwenImageEditPlusModularPipeline QwenImageModularPipeline
    StableDiffusion3ModularPipeline StableDiffusionDiffEditPipeline StableDiffusionParadigmsPipeline
    StableDiffusionXLModularPipeline Wan22Image2VideoModularPipeline Wan22ModularPipeline
    Wan22VaceModularPipeline WanAnimatePipeline WanImage2VideoModularPipeline WanModularPipeline
    ZImageModularPipeline
    """.split()  # noqa: SIM905
)
