"""FLUX's twins: the same tokens in the same order, with a call for each half of classifier-free guidance."""

from tokenrank_guidance.families.family import Family
from tokenrank_guidance.families.flux import LAYERS, text_then_image
from tokenrank_guidance.families.packed import PACKED, SIDE
from tokenrank_guidance.families.tokens import Tokens

TWINS = Family(
    models=("ChromaTransformer2DModel", "OvisImageTransformer2DModel", "LongCatImageTransformer2DModel"),
    tokens=Tokens(text_then_image, LAYERS),
    calling=PACKED,
    packing=SIDE,
)
FAMILIES = (TWINS,)
