# %% [markdown]
# # Guide SDXL
#
# SDXL in half precision, offloaded to the CPU between its parts, at several strengths of guidance. Guidance
# costs one more call of the UNet in each guided step; `stop=0.5` guides the first half of the steps, where
# the picture's composition is decided.

# %%
from pathlib import Path

import matplotlib.pyplot as plt
import torch
from diffusers import StableDiffusionXLPipeline

from sag import SelfAttentionGuidance

# %% tags=["parameters"]
MODEL = "stabilityai/stable-diffusion-xl-base-1.0"
PROMPT = "an old lighthouse on a cliff, morning fog"
NEGATIVE = "blurry"
STEPS = 30
SCALES = [0.0, 0.5, 1.0]
SEED = 0
OUT = "drawn"

# %%
if torch.cuda.is_available():
    pipe = StableDiffusionXLPipeline.from_pretrained(MODEL, torch_dtype=torch.float16)
    pipe.enable_model_cpu_offload()
else:
    pipe = StableDiffusionXLPipeline.from_pretrained(MODEL)

# %% [markdown]
# At scale 0 the pipeline is the unguided one, bit for bit. Offloading, LoRA, IP-Adapter, ControlNet and
# `torch.compile` go on working.

# %%
pictures = {}
for scale in SCALES:
    with SelfAttentionGuidance(scorer="tokenrank", sag_scale=scale, stop=0.5)(pipe):
        pictures[scale] = pipe(
            PROMPT,
            negative_prompt=NEGATIVE,
            num_inference_steps=STEPS,
            generator=torch.Generator().manual_seed(SEED),
        ).images[0]

# %%
figure, axes = plt.subplots(1, len(SCALES), figsize=(4 * len(SCALES), 4.3), layout="constrained")
for panel, (scale, image) in zip(axes, pictures.items(), strict=True):
    panel.imshow(image)
    panel.set_title(f"sag_scale = {scale}")
    panel.set_axis_off()
Path(OUT).mkdir(exist_ok=True)
figure.savefig(Path(OUT) / "sdxl.png", dpi=150)
