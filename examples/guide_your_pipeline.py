# %% [markdown]
# # Guide your pipeline
#
# One hook guides any pipeline of diffusers. Here the same seeds are drawn without guidance, with
# Self-Attention Guidance, and with TokenRank guidance, and the tokens that were blurred are shown.

# %%
from pathlib import Path

import matplotlib.pyplot as plt
import torch
from diffusers import DiffusionPipeline

from sag import SelfAttentionGuidance
from tokenrank_guidance.tiny import available_models, load_pipeline

# %% [markdown]
# `MODEL` is an embedded model, which needs no download, or a Hub id such as
# `"stable-diffusion-v1-5/stable-diffusion-v1-5"`.

# %% tags=["parameters"]
MODEL = "tiny-sd"
PROMPT = "a photo of a church"
STEPS = 24
SEEDS = [0, 1, 2]
OUT = "drawn"

# %%
device = "cuda" if torch.cuda.is_available() else "cpu"
if MODEL in available_models():
    pipe = load_pipeline(MODEL)
else:
    pipe = DiffusionPipeline.from_pretrained(MODEL, torch_dtype=torch.float16 if device == "cuda" else None)
pipe = pipe.to(device)
pipe.set_progress_bar_config(disable=True)


def draw():
    """One picture for each seed."""
    generators = [torch.Generator(device).manual_seed(seed) for seed in SEEDS]
    return pipe(
        [PROMPT] * len(SEEDS), guidance_scale=4.0, num_inference_steps=STEPS, generator=generators
    ).images


# %% [markdown]
# Inside the block the pipeline is guided; after it, it is as it was. `guidance.steps` holds the scores and
# masks of the run.

# %%
pictures, masks = {"unguided": draw()}, {}
for name, guidance in {
    "SAG, as published": SelfAttentionGuidance(scorer="sag", keep_contrast=0),
    "TokenRank": SelfAttentionGuidance(scorer="tokenrank", sag_scale=0.75),
}.items():
    with guidance(pipe):
        pictures[name] = draw()
    masks[name] = guidance.steps[len(guidance.steps) // 2].mask

# %%
panels = list(pictures.items())
panels += [(f"blurred by {name}", list(mask.float().cpu().numpy())) for name, mask in masks.items()]
figure, axes = plt.subplots(
    len(panels),
    len(SEEDS),
    figsize=(2 * len(SEEDS), 2.2 * len(panels)),
    squeeze=False,
    layout="constrained",
)
for row, (name, images) in zip(axes, panels, strict=True):
    for panel, image in zip(row, images, strict=True):
        panel.imshow(image, cmap="gray")
        panel.set_axis_off()
    row[0].set_title(name, loc="left", fontsize=10)
Path(OUT).mkdir(exist_ok=True)
figure.savefig(Path(OUT) / "guided.png", dpi=150)
