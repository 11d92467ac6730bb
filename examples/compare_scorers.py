# %% [markdown]
# # Compare scorers, and write your own
#
# A scorer maps a layer's attention to scores with mean 1, so that one threshold means the same for all.
# Here every scorer that has a name, and one written on the spot, guide the same seeds; the table says how
# much of its mask each shares with SAG's, and how far it moved the picture.

# %%
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch

from sag import SCORERS, SelfAttentionGuidance
from tokenrank_guidance import multi_bounce
from tokenrank_guidance.tiny import load_pipeline

# %% tags=["parameters"]
MODEL = "tiny-sd"
NAMES = list(SCORERS)
PROMPT = "a photo of a church"
STEPS = 24
SEEDS = [0, 1, 2, 3]
OUT = "drawn"

# %% [markdown]
# Attention received after two steps from everywhere: between SAG's one step and TokenRank's endless walk. A
# record's `transition` is the chain over its image tokens.


# %%
def received_twice(record):
    """Scores (batch, tokens), mean 1."""
    chain = record.transition("image")
    everywhere = torch.ones(chain.n, device=chain.device)  # normalised by multi_bounce
    return chain.n * multi_bounce(chain, everywhere, n=2, head_weights="mean")


# %%
pipe = load_pipeline(MODEL)
pipe.set_progress_bar_config(disable=True)


def draw():
    generators = [torch.Generator().manual_seed(seed) for seed in SEEDS]
    images = pipe([PROMPT] * len(SEEDS), guidance_scale=4.0, num_inference_steps=STEPS, generator=generators)
    return images.images


unguided = draw()
pictures, masks = {"unguided": unguided}, {}
for scorer in [*NAMES, received_twice]:
    guidance = SelfAttentionGuidance(scorer=scorer)
    title = scorer if isinstance(scorer, str) else scorer.__name__
    with guidance(pipe):
        pictures[title] = draw()
    masks[title] = torch.stack([step.mask.cpu() for step in guidance.steps])

# %% [markdown]
# Runs part ways as they are guided: masks of later steps are of different pictures, so that only the first
# guided step is compared.

# %%
for name, mask in masks.items():
    first, reference = mask[0], masks["sag"][0]
    shared = (first & reference).sum() / (first | reference).sum()
    pairs = zip(pictures[name], unguided, strict=True)
    moved = np.mean([np.abs(np.asarray(a, float) - np.asarray(b, float)).mean() / 255 for a, b in pairs])
    print(f"{name:20} blurs {first.float().mean():4.0%}   IoU with sag {shared:.2f}   moved by {moved:.3f}")

# %%
size = (1.5 * len(SEEDS) + 1.5, 1.5 * len(pictures))
figure, axes = plt.subplots(len(pictures), len(SEEDS), figsize=size, squeeze=False, layout="constrained")
for row, (name, images) in zip(axes, pictures.items(), strict=True):
    row[0].set_ylabel(name, rotation=0, ha="right", va="center")
    for panel, image in zip(row, images, strict=True):
        panel.imshow(image)
        panel.set(xticks=[], yticks=[])
Path(OUT).mkdir(exist_ok=True)
figure.savefig(Path(OUT) / "scorers.png", dpi=150)
