# %% [markdown]
# # Rank a vision transformer's tokens
#
# `capture` keeps a layer's queries and keys and changes no bit of the output. The stationary vector of the
# chain that they make ranks the patches by where attention ends up; attention of the class token is one
# look from one place.

# %%
from pathlib import Path

import matplotlib.pyplot as plt
import torch
from PIL import Image
from transformers import AutoImageProcessor, AutoModelForImageClassification

from tokenrank_guidance import capture, column_sum, multi_bounce, second_eigenvalue, tokenrank
from tokenrank_guidance.plots import lambda2_figure

# %% [markdown]
# Any ViT, DeiT, DINOv2, CLIP or SigLIP of transformers; timm's work the same way.

# %% tags=["parameters"]
MODEL = "google/vit-base-patch16-224"
PICTURE = "pictures/boat.png"
LAYER = "auto"
OUT = "drawn"

# %%
vit = AutoModelForImageClassification.from_pretrained(MODEL).eval()
picture = Image.open(PICTURE).convert("RGB")
pixels = AutoImageProcessor.from_pretrained(MODEL)(picture, return_tensors="pt")["pixel_values"]
with torch.no_grad(), capture(vit, layers=LAYER) as maps:
    logits = vit(pixels).logits
record = maps[-1]
print(f"{record.module}: {record.tokens} tokens, patches on a grid of {record.grid}")
print("seen as:", vit.config.id2label[logits.argmax().item()])

# %% [markdown]
# Three rankings of the patches, each a distribution: what the class token attends to, what all patches
# attend to, and TokenRank.

# %%
patches = record.transition("image")
rankings = {
    "class token's attention": multi_bounce(record, start=0, n=1, head_weights="mean")[0, record.image],
    "attention received": column_sum(patches, head_weights="mean")[0],
    "TokenRank": tokenrank(patches, damping=0.99, head_weights="lambda2")[0],
}
figure, axes = plt.subplots(1, 1 + len(rankings), figsize=(12, 3.2), layout="constrained")
axes[0].imshow(picture)
axes[0].set_title("picture")
for panel, (name, rank) in zip(axes[1:], rankings.items(), strict=True):
    shown = panel.imshow((len(rank) * rank / rank.sum()).unflatten(0, record.grid).numpy(), cmap="magma")
    panel.set_title(name)
    figure.colorbar(shown, ax=panel, label="mean 1", shrink=0.8)
for panel in axes:
    panel.set_axis_off()
Path(OUT).mkdir(exist_ok=True)
figure.savefig(Path(OUT) / "ranks.png", dpi=150)

# %% [markdown]
# λ2, the chain's second eigenvalue, says how slowly a head's walk forgets where it started: large where a
# head holds regions apart.

# %%
with torch.no_grad(), capture(vit, layers="all") as maps:
    vit(pixels)
print("of the chosen layer, by head:", [round(value, 2) for value in second_eigenvalue(record)[0].tolist()])
heads = lambda2_figure(maps)
heads.savefig(Path(OUT) / "heads.png", dpi=150)
