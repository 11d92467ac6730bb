"""Write a trained embedded pipeline in diffusers' format, whole or not at all."""

from __future__ import annotations

import json
import os
from pathlib import Path

import torch
from diffusers import DiffusionPipeline
from safetensors import SafetensorError
from torch import nn

from tokenrank_guidance.files.writing import named_errors, scratch_in
from tokenrank_guidance.quiet import quiet_libraries

SIZE_LIMIT = 24 * 2**20


def export_pipeline(
    pipe: DiffusionPipeline, trained: dict[str, nn.Module], facts: dict[str, object], folder: Path
) -> None:
    """Save `pipe` with the `trained` modules' weights as fp16 safetensors, and `facts` as training.json.

    The folder's other files (model card, pictures) stay. Raises ValueError above 24 MB, and OSError where
    there is no room for it: the folder is then as it was.
    """
    for name, module in trained.items():
        getattr(pipe, name).load_state_dict(module.state_dict())
    folder.parent.mkdir(parents=True, exist_ok=True)
    with scratch_in(folder.parent) as scratch, named_errors(folder):
        fresh = scratch / folder.name
        save_half(pipe, fresh)
        _drop_derived(fresh / "vae" / "config.json")
        (fresh / "training.json").write_text(json.dumps(facts, indent=1) + "\n")
        size = sum(file.stat().st_size for file in fresh.rglob("*") if file.is_file())
        if size > SIZE_LIMIT:
            raise ValueError(f"{folder.name} takes {size / 2**20:.1f} MB; expected at most 24 MB")
        for part in (path.relative_to(fresh) for path in fresh.rglob("*") if path.is_file()):
            (folder / part).parent.mkdir(parents=True, exist_ok=True)
            os.replace(fresh / part, folder / part)


def save_half(pipe: DiffusionPipeline, folder: Path) -> None:
    """Save with every weight rounded to fp16; the pipeline itself goes on with the rounded weights.

    Raises OSError for what cannot be written.
    """
    with quiet_libraries():
        try:
            pipe.to(torch.float16).save_pretrained(folder, safe_serialization=True)
        except SafetensorError as error:  # of a full disk too
            raise OSError(str(error)) from error
        pipe.to(torch.float32)


def _drop_derived(config: Path) -> None:
    """`AutoencoderTiny` writes an attribute that it derives itself, and warns when it reads it back."""
    values = json.loads(config.read_text())
    values.pop("block_out_channels", None)
    config.write_text(json.dumps(values, indent=2) + "\n")
