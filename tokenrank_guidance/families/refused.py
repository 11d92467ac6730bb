"""Denoisers of diffusers that are not read here, and why: for each class, a reason that is its own."""

ROTATED = (
    "its linear attention turns queries and keys by their places after rectifying them: its weights have "
    "both signs, and are no probabilities"
)
RECURRENT = (
    "most of its self-attention is recurrent (a gated delta rule): no map of it is a chain over tokens"
)
IN_ONE_ROW = (
    "its text, sound and video are rows of one sequence, told apart by indices that are not read here"
)
MEAN_FLOW = "it predicts the mean flow between two timesteps, which tells no clean video to be blurred"
FLEX = "its layers run torch's flex attention, whose queries and keys are not seen"
CACHED = "it caches keys of frames that it is given, so that no call holds the whole map"
LISTS = "it is given lists of text, video, sound and actions, of which none is its sample"
AMONG = "its sample holds given pictures beside the one that it draws, which are not told apart here"
SOUND = "it makes sound, whose tokens are no grid of an image"
BESIDE = (
    "it puts a picture beside the latents, on the same grid, which guidance would blur and rank with them"
)
TWO_NETWORKS = (
    "its pipeline guides classifier-free by a second network without the prompt, which would get no shift, "
    "and gives the first the text's places among its latents"
)
DISCRETE = "it predicts classes of image tokens, not noise"
SOUND_DENOISERS = (
    *("AceStepTransformer1DModel", "AudioLDM2UNet2DConditionModel", "LongCatAudioDiTTransformer"),
    *("StableAudio3DiTModel", "StableAudioDiTModel", "UNet1DModel"),
    "MiniMaxMusic3Transformer1DModel",
)
REFUSED: dict[str, str] = {
    **dict.fromkeys(SOUND_DENOISERS, SOUND),
    "SanaVideoTransformer3DModel": ROTATED,
    "SanaWMTransformer3DModel": RECURRENT,
    "DreamLiteUNetModel": BESIDE,
    "Ideogram4Transformer2DModel": TWO_NETWORKS,
    "AnyFlowFARTransformer3DModel": MEAN_FLOW,
    "AnyFlowTransformer3DModel": MEAN_FLOW,
    "Cosmos3OmniTransformer": LISTS,
    "JoyImageEditPlusTransformer3DModel": AMONG,
    "JoyImageEditTransformer3DModel": AMONG,
    "Kandinsky6SRTransformer3DModel": FLEX,
    "MiniMaxH3Transformer3DModel": IN_ONE_ROW,
    "SanaWMLTX2RefinerTransformer3DModel": CACHED,
    "WanAnimate2Transformer3DModel": CACHED,
    "Transformer2DModel": DISCRETE,
    "UVit2DModel": DISCRETE,
    "UniDiffuserModel": "it denoises a picture and a text at once, both in one row of numbers",
    "RFD4ProteinaTransformer": "it denoises atoms, not an image",
}
