"""Pipelines over known denoisers that no row tries yet: to become rows, and this file to go."""

OPEN: frozenset[str] = frozenset(
    """
    AnimaModularPipeline BlipDiffusionControlNetPipeline BlipDiffusionPipeline ConsisIDPipeline
    Cosmos2_5_TransferPipeline ErnieImageModularPipeline Flux2KleinModularPipeline
    Flux3DistilledModularPipeline Flux3ModularPipeline FluxKontextModularPipeline
    HunyuanVideo15ImageToVideoPipeline HunyuanVideo15ModularPipeline KolorsImg2ImgPipeline
    KolorsPAGPipeline KolorsPipeline
    LTXI2VLongMultiPromptPipeline LTXModularPipeline MotifVideoImage2VideoPipeline
    QwenImage21ModularPipeline QwenImage21TurboModularPipeline QwenImageEditModularPipeline
    QwenImageEditPlusModularPipeline Wan22Image2VideoModularPipeline Wan22ModularPipeline
    Wan22VaceModularPipeline WanAnimatePipeline WanImage2VideoModularPipeline WanModularPipeline
    ZImageModularPipeline
    """.split()  # noqa: SIM905
)
