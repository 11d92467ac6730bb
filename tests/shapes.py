"""Shapes in signatures are checked while tests run, where that costs little and no test breaks them.

Left out are the innermost loops of the chain (checking them takes four times as long as they do), and
functions whose tests give wrong shapes or types for the ValueError that users get.
"""

from beartype import BeartypeConf, beartype
from jaxtyping import install_import_hook

checked = beartype(conf=BeartypeConf(is_pep484_tower=True))  # a whole number is a float, to pyright too
CHAIN = "bounce coerce distribution heads logits mask score spectrum stationary walks"
GUIDANCE = "agreement contrast degrade degraded parts predict"
MAPS = "aggregate labels merge metastable refine"
PASSES = "channels denoise noise sizes"
WORDS = "chain concept_attention concept_text joint unet"
MODULES = [
    *(f"tokenrank_guidance.markov.{name}" for name in CHAIN.split()),
    "tokenrank_guidance.families.packed",
    *(f"sag.{name}" for name in GUIDANCE.split()),
    "diffseg.cross",
    *(f"diffseg.maps.{name}" for name in MAPS.split()),
    *(f"diffseg.passes.{name}" for name in PASSES.split()),
    *(f"diffseg.zero_shot.{name}" for name in WORDS.split()),
]


def check_shapes() -> None:
    """From here on, for modules that are not imported yet."""
    install_import_hook(MODULES, "tests.shapes.checked")
