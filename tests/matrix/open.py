"""Pipelines over known denoisers that no row tries yet: to become rows, and this file to go."""

OPEN: frozenset[str] = frozenset(
    """
    BlipDiffusionControlNetPipeline BlipDiffusionPipeline Cosmos2_5_TransferPipeline
    ErnieImageModularPipeline Flux2KleinModularPipeline Flux3DistilledModularPipeline
    Flux3ModularPipeline FluxKontextModularPipeline QwenImage21ModularPipeline
    QwenImage21TurboModularPipeline QwenImageEditModularPipeline QwenImageEditPlusModularPipeline
    ZImageModularPipeline
    """.split()  # noqa: SIM905
)
