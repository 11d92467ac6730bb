"""Pipelines over known denoisers that no row tries yet: to become rows, and this file to go."""

OPEN: frozenset[str] = frozenset(
    """
    AnimaModularPipeline BlipDiffusionControlNetPipeline BlipDiffusionPipeline ConsisIDPipeline
    Cosmos2_5_TransferPipeline ErnieImageModularPipeline Flux2KleinModularPipeline
    Flux3DistilledModularPipeline Flux3ModularPipeline FluxKontextModularPipeline
    HunyuanVideo15ModularPipeline KolorsImg2ImgPipeline KolorsPAGPipeline KolorsPipeline
    LTXModularPipeline QwenImage21ModularPipeline QwenImage21TurboModularPipeline
    QwenImageEditModularPipeline QwenImageEditPlusModularPipeline Wan22Image2VideoModularPipeline
    Wan22ModularPipeline Wan22VaceModularPipeline WanImage2VideoModularPipeline WanModularPipeline
    ZImageModularPipeline
    """.split()  # noqa: SIM905
)
