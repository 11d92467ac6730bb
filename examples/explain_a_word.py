# %% [markdown]
# # Explain a word
#
# In FLUX and SD3 text and image tokens attend to each other in one map, so that a walk can start at a word
# and end in the picture. Nothing is trained. This shows what several walks from one
# word find.

# %%
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from diffusers import DiffusionPipeline
from PIL import Image

from diffseg.zero_shot import segment
from tokenrank_guidance.tiny import available_models, load_pipeline

# %% [markdown]
# The word must be in the caption. `RESOLUTION` is √(pixels) that the model works at; `DRAWS` of noise are
# averaged.

# %% tags=["parameters"]
MODEL = "tiny-flux"
PICTURE = "pictures/flower.png"
WORD = "flower"
CAPTION = "a photo of a flower"
RESOLUTION = 128
TIMESTEPS = (500, 750)
DRAWS = 3
OUT = "drawn"

# %%
pipe = load_pipeline(MODEL) if MODEL in available_models() else DiffusionPipeline.from_pretrained(MODEL)
picture = Image.open(PICTURE).convert("RGB")
walks = {
    "where the word attends": {"method": "row"},
    "who attends to the word": {"method": "column"},
    "two bounces out": {"method": "bounce", "n": 2},
    "two bounces in": {"method": "bounce", "n": 2, "direction": "incoming"},
    "then within the picture": {"method": "image-bounce", "n": 2},
    "ends at the word": {"method": "absorbing"},
}
found = {
    name: segment(
        pipe,
        picture,
        [WORD],
        caption=CAPTION,
        resolution=RESOLUTION,
        timesteps=TIMESTEPS,
        draws=DRAWS,
        **walk,
    )
    for name, walk in walks.items()
}

# %% [markdown]
# Above the heat maps, below the picture where the heat exceeds its own mean.

# %%
figure, axes = plt.subplots(2, 1 + len(found), figsize=(2.1 * (1 + len(found)), 4.8), layout="constrained")
for panel in axes.flat:
    panel.set_axis_off()
axes[0, 0].imshow(picture)
axes[0, 0].set_title(f"“{WORD}”", fontsize=10)
for (top, bottom), (name, result) in zip(axes.T[1:], found.items(), strict=True):
    top.imshow(result.heat_maps[0].cpu().numpy(), cmap="magma")
    top.set_title(name, fontsize=9)
    mask = result.masks[0].cpu().numpy()
    bottom.imshow(np.where(mask[..., None], picture, 255))
    bottom.set_title(f"{mask.mean():.0%} of the picture", fontsize=9)
Path(OUT).mkdir(exist_ok=True)
figure.savefig(Path(OUT) / "word.png", dpi=150)
