"""The table of model families, from the registry."""

from __future__ import annotations

from collections.abc import Mapping

from tokenrank_guidance.families.family import Family
from tokenrank_guidance.families.registry import FAMILIES
from tokenrank_guidance.markdown import markdown_table

YES = "✓"
# A line of the table, and the model classes by which its families are found.
IMAGES = {
    "Stable Diffusion 1, 2 and XL, DeepFloyd IF, Kandinsky 2.2": "UNet2DConditionModel",
    "ControlNet-XS": "UNetControlNetXSModel",
    "DDPM, consistency models": "UNet2DModel",
    "Stable Diffusion 3 and 3.5": "SD3Transformer2DModel",
    "FLUX": "FluxTransformer2DModel",
    "FLUX.2": "Flux2Transformer2DModel",
    "FLUX.3": "Flux3Transformer2DModel",
    "Chroma": "ChromaTransformer2DModel",
    "Z-Image": "ZImageTransformer2DModel",
    "HiDream": "HiDreamImageTransformer2DModel",
    "Sana, Sana-Sprint": "SanaTransformer2DModel",
    "PixArt": "PixArtTransformer2DModel",
    "DiT": "DiTTransformer2DModel",
    "Bria 3.2": "BriaTransformer2DModel",
    "FIBO": "BriaFiboTransformer2DModel",
    "FIBO 2": "BriaFibo2Transformer2DModel",
    "CogView 3+": "CogView3PlusTransformer2DModel",
    "CogView 4": "CogView4Transformer2DModel",
    "Qwen-Image": "QwenImageTransformer2DModel",
    "Qwen-Image 2.1": "QwenImage21Transformer2DModel",
    "Hunyuan-DiT": "HunyuanDiT2DModel",
    "HunyuanImage 2.1": "HunyuanImageTransformer2DModel",
    "Lumina": "LuminaNextDiT2DModel",
    "Lumina 2": "Lumina2Transformer2DModel",
    "Ovis-Image, LongCat-Image": "OvisImageTransformer2DModel LongCatImageTransformer2DModel",
    "AuraFlow": "AuraFlowTransformer2DModel",
    "Kandinsky 3": "Kandinsky3UNet",
    "Stable Cascade, Würstchen": "StableCascadeUNet WuerstchenDiffNeXt",
    "Krea 2": "Krea2Transformer2DModel",
    "ERNIE-Image": "ErnieImageTransformer2DModel",
    "GLM-Image": "GlmImageTransformer2DModel",
    "Nucleus-Image": "NucleusMoEImageTransformer2DModel",
    "OmniGen": "OmniGenTransformer2DModel",
    "PRX": "PRXTransformer2DModel",
}
VIDEOS = {
    "Wan 2.1 and 2.2, SkyReels V2, ChronoEdit": "WanTransformer3DModel",
    "LTX-Video": "LTXVideoTransformer3DModel",
    "LTX-2": "LTX2VideoTransformer3DModel",
    "CogVideoX, ConsisID": "CogVideoXTransformer3DModel",
    "EasyAnimate": "EasyAnimateTransformer3DModel",
    "HunyuanVideo 1 and 1.5": "HunyuanVideoTransformer3DModel HunyuanVideo15Transformer3DModel",
    "Framepack": "HunyuanVideoFramepackTransformer3DModel",
    "Motif-Video": "MotifVideoTransformer3DModel",
    "Kandinsky 5": "Kandinsky5Transformer3DModel",
    "Kandinsky 6": "Kandinsky6Transformer3DModel",
    "Helios": "HeliosTransformer3DModel",
    "Cosmos": "CosmosTransformer3DModel",
    "Mochi": "MochiTransformer3DModel",
    "Allegro": "AllegroTransformer3DModel",
    "AnimateDiff": "UNetMotionModel",
    "Stable Video Diffusion": "UNetSpatioTemporalConditionModel",
    "Latte": "LatteTransformer3DModel",
    "Text-to-video, I2VGen-XL": "UNet3DConditionModel",
}
TRANSFORMERS = {
    "ViT, DeiT, DINOv2, DINOv3": (
        "ViTPreTrainedModel DeiTPreTrainedModel Dinov2WithRegistersPreTrainedModel DINOv3ViTPreTrainedModel"
    ),
    "CLIP, SigLIP, SigLIP 2": "CLIPModel SiglipModel Siglip2Model",
    "timm's VisionTransformer, Eva": "VisionTransformer",
}
GROUPS = {"images": IMAGES, "videos": VIDEOS, "nothing": TRANSFORMERS}  # by what they draw


def families() -> str:
    """A line for each model, with what is known of it: guidance, pictures to segment, words to read.

    Raises ValueError for a family without a line, and for a line whose families are not known alike.
    """
    found = {name: _known(name, classes) for own in GROUPS.values() for name, classes in own.items()}
    rows = [
        {"model": name} | _ticks(name, found[name], drawn) for drawn, own in GROUPS.items() for name in own
    ]
    named = {one for known in found.values() for one in map(id, known)}
    left = [str(family) for family in FAMILIES if id(family) not in named]
    if left:
        raise ValueError(f"scripts/docs/families.py has no line for {', '.join(left)}")
    return markdown_table(rows, tuple(rows[0]))


def _known(name: str, classes: str) -> list[Family]:
    by_class = {model: family for family in FAMILIES for model in family.models}
    missing = [one for one in classes.split() if one not in by_class]
    if missing:
        raise ValueError(f"{name}: no family has {', '.join(missing)}")
    return [by_class[one] for one in classes.split()]


def _ticks(name: str, known: list[Family], drawn: str) -> Mapping[str, str]:
    told = [
        {
            "guided": drawn if one.calling else "",
            "segmented": YES if one.picture else "",
            "by words": YES if one.words and one.words.walks else "",
        }
        for one in known
    ]
    if any(one != told[0] for one in told):
        raise ValueError(f"{name}: different things are known of its families; give them lines of their own")
    return told[0]
