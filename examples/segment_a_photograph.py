# %% [markdown]
# # Segment a photograph
#
# A diffusion model's self-attention splits a picture into segments: nothing is trained and no prompt is
# needed. Segments grow from anchor tokens, which TokenRank chooses here; how many are left is read off the
# chain's eigenvalues.

# %%
from pathlib import Path

import matplotlib.pyplot as plt
from diffusers import DiffusionPipeline
from PIL import Image

from diffseg import DiffSeg
from tokenrank_guidance.tiny import available_models, load_pipeline

# %% [markdown]
# `PICTURE` may have any size. `RESOLUTION` is √(pixels) that the model works at, `None` for its own: larger
# ones give finer segments.

# %% tags=["parameters"]
MODEL = "tiny-sd"
PICTURE = "pictures/flower.png"
RESOLUTION = 256
OUT = "drawn"

# %%
pipe = load_pipeline(MODEL) if MODEL in available_models() else DiffusionPipeline.from_pretrained(MODEL)
picture = Image.open(PICTURE).convert("RGB")
segments = DiffSeg.from_pipe(pipe, resolution=RESOLUTION)(picture)

# %% [markdown]
# `labels` has the picture's size; `scores` and `anchors` are on the grid of tokens. With `caption="a dog on
# the grass"` a second pass names the segments, in `segments.names`.

# %%
found = sorted(set(segments.labels.flatten().tolist()))
print(f"{len(found)} segments of {len(segments.anchors)} anchors on {segments.grid} tokens")

figure, (left, middle, right) = plt.subplots(1, 3, figsize=(10, 3.6), layout="constrained")
left.imshow(picture)
left.set_title("picture")
middle.imshow(picture.convert("L"), cmap="gray")
middle.imshow(segments.labels.cpu().numpy(), cmap="tab20", alpha=0.6, interpolation="nearest")
middle.set_title(f"{len(found)} segments")
shown = right.imshow(segments.scores.cpu().numpy(), cmap="magma")
rows, columns = segments.anchors.cpu().numpy().T
right.plot(columns, rows, "o", mfc="none", mec="cyan", ms=4, mew=0.8)
right.set_title("TokenRank and anchors")
figure.colorbar(shown, ax=right, label="N·π (mean 1)", shrink=0.85)
for panel in (left, middle, right):
    panel.set_axis_off()
Path(OUT).mkdir(exist_ok=True)
figure.savefig(Path(OUT) / "segments.png", dpi=150)
