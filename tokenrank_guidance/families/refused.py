"""Denoisers of diffusers that are not read here, and why: for each class, a reason that is its own."""

NO_LAYOUT = "where its image tokens are is not known here yet"
VIDEO = "its latents have a time axis, which guidance does not blur yet"
FRAMES_AS_IMAGES = "its frames share the batch axis, which guidance reads as images"
ROTATED = (
    "its linear attention turns queries and keys by their places after rectifying them: its weights have "
    "both signs, and are no probabilities"
)
RECURRENT = (
    "most of its self-attention is recurrent (a gated delta rule): no map of it is a chain over tokens"
)
SOUND = "it makes sound, whose tokens are no grid of an image"
DISCRETE = "it predicts classes of image tokens, not noise"
VIDEO_DENOISERS = (
    *("AnyFlowFARTransformer3DModel", "AnyFlowTransformer3DModel", "Cosmos3OmniTransformer"),
    *("HeliosTransformer3DModel", "I2VGenXLUNet"),
    *("JoyImageEditPlusTransformer3DModel", "JoyImageEditTransformer3DModel"),
    *("Kandinsky6SRTransformer3DModel", "Kandinsky6Transformer3DModel", "LTX2VideoTransformer3DModel"),
    *("LatteTransformer3DModel", "SanaVideoTransformer3DModel"),
    *("SanaWMLTX2RefinerTransformer3DModel", "SanaWMTransformer3DModel", "UNet3DConditionModel"),
    *("UNetSpatioTemporalConditionModel", "WanAnimate2Transformer3DModel"),
    "MiniMaxH3Transformer3DModel",
)
WITHOUT_LAYOUT = (
    *("Ideogram4Transformer2DModel", "OmniGenTransformer2DModel", "Flux3Transformer2DModel"),
    *("DreamLiteUNetModel", "StableCascadeUNet", "WuerstchenDiffNeXt"),
)
SOUND_DENOISERS = (
    *("AceStepTransformer1DModel", "AudioLDM2UNet2DConditionModel", "LongCatAudioDiTTransformer"),
    *("StableAudio3DiTModel", "StableAudioDiTModel", "UNet1DModel"),
    "MiniMaxMusic3Transformer1DModel",
)
REFUSED: dict[str, str] = {
    **dict.fromkeys(VIDEO_DENOISERS, VIDEO),
    **dict.fromkeys(WITHOUT_LAYOUT, NO_LAYOUT),
    **dict.fromkeys(SOUND_DENOISERS, SOUND),
    "SanaVideoTransformer3DModel": ROTATED,
    "SanaWMTransformer3DModel": RECURRENT,
    "UNetMotionModel": FRAMES_AS_IMAGES,
    "Transformer2DModel": DISCRETE,
    "UVit2DModel": DISCRETE,
    "UniDiffuserModel": "it denoises a picture and a text at once, both in one row of numbers",
    "RFD4ProteinaTransformer": "it denoises atoms, not an image",
}
