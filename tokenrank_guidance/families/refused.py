"""Denoisers of diffusers that are not read here, and why: for each class, a reason that is its own."""

NO_LAYOUT = "where its image tokens are is not known here yet"
LINEAR = "its self-attention is linear, with no map to capture: relu(q)·relu(k)ᵀ is not read as a chain yet"
VIDEO = "its latents have a time axis, which guidance does not blur yet"
FRAMES_AS_IMAGES = "its frames share the batch axis, which guidance reads as images"
SOUND = "it makes sound, whose tokens are no grid of an image"
DISCRETE = "it predicts classes of image tokens, not noise"
VIDEO_DENOISERS = (
    *("AnyFlowFARTransformer3DModel", "AnyFlowTransformer3DModel", "Cosmos3OmniTransformer"),
    *("HeliosTransformer3DModel", "I2VGenXLUNet"),
    *("JoyImageEditPlusTransformer3DModel", "JoyImageEditTransformer3DModel"),
    *("Kandinsky6SRTransformer3DModel", "Kandinsky6Transformer3DModel", "LTX2VideoTransformer3DModel"),
    *("LatteTransformer3DModel", "MochiTransformer3DModel", "SanaVideoTransformer3DModel"),
    *("SanaWMLTX2RefinerTransformer3DModel", "SanaWMTransformer3DModel", "UNet3DConditionModel"),
    "UNetSpatioTemporalConditionModel",
)
WITHOUT_LAYOUT = (
    *("BriaFibo2Transformer2DModel", "BriaFiboTransformer2DModel", "BriaTransformer2DModel"),
    *("ChromaTransformer2DModel", "CogView3PlusTransformer2DModel", "CogView4Transformer2DModel"),
    *("ErnieImageTransformer2DModel", "GlmImageTransformer2DModel", "HiDreamImageTransformer2DModel"),
    *("HunyuanImageTransformer2DModel", "Ideogram4Transformer2DModel", "Kandinsky3UNet"),
    *("Krea2Transformer2DModel", "LongCatImageTransformer2DModel", "NucleusMoEImageTransformer2DModel"),
    *("OmniGenTransformer2DModel", "OvisImageTransformer2DModel", "PRXTransformer2DModel"),
    *("QwenImage21Transformer2DModel", "UNetControlNetXSModel", "ZImageTransformer2DModel"),
    "DreamLiteUNetModel",
)
SOUND_DENOISERS = (
    *("AceStepTransformer1DModel", "AudioLDM2UNet2DConditionModel", "LongCatAudioDiTTransformer"),
    *("StableAudio3DiTModel", "StableAudioDiTModel", "UNet1DModel"),
)
REFUSED: dict[str, str] = {
    **dict.fromkeys(VIDEO_DENOISERS, VIDEO),
    **dict.fromkeys(WITHOUT_LAYOUT, NO_LAYOUT),
    **dict.fromkeys(SOUND_DENOISERS, SOUND),
    "SanaTransformer2DModel": LINEAR,
    "UNetMotionModel": FRAMES_AS_IMAGES,
    "Transformer2DModel": DISCRETE,
    "UVit2DModel": DISCRETE,
    "UniDiffuserModel": "it denoises a picture and a text at once, both in one row of numbers",
    "RFD4ProteinaTransformer": "it denoises atoms, not an image",
}
