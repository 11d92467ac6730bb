"""Pipelines over known denoisers that no row tries yet: to become rows, and this file to go."""

OPEN: frozenset[str] = frozenset(
    """
    BlipDiffusionControlNetPipeline BlipDiffusionPipeline ConsisIDPipeline
    Cosmos2_5_TransferPipeline ErnieImageModularPipeline Flux2KleinModularPipeline
    Flux3DistilledModularPipeline Flux3ModularPipeline FluxKontextModularPipeline
    KolorsImg2ImgPipeline KolorsPAGPipeline KolorsPipeline QwenImage21ModularPipeline
    QwenImage21TurboModularPipeline QwenImageEditModularPipeline QwenImageEditPlusModularPipeline
    ZImageModularPipeline
    """.split()  # noqa: SIM905
)
