"""What a --model is: a diffusers pipeline or a vision transformer."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from tokenrank_guidance.files.hub import PIPELINE, TIMM, first_of

if TYPE_CHECKING:
    from tokenrank_guidance.pipelines import Model

OF_PIPELINES = (PIPELINE, "training.json")  # in a folder: a pipeline's, a miniature's


def is_vision_transformer(name: str) -> bool:
    """Whether `name` is seen to be one without a question to the Hub: timm's, or a folder of no pipeline."""
    folder = Path(name)
    return name.startswith(TIMM) or (
        folder.is_dir() and not any((folder / file).is_file() for file in OF_PIPELINES)
    )


def is_pipeline(name: str) -> bool:
    """Whether `name` is a pipeline: an embedded one, a folder's, or the Hub's, which is asked."""
    if is_vision_transformer(name):
        return False
    if Path(name).is_dir() or "/" not in name:
        return True
    return first_of(name, [PIPELINE]) is not None


def open_pipeline(name: str, device: str, dtype: str) -> Model:
    """The pipeline, without bars of its own; errors as of `load_model`."""
    from tokenrank_guidance.devices import DTYPES
    from tokenrank_guidance.pipelines import load_model

    model = load_model(name, device, DTYPES[dtype])
    model.pipe.set_progress_bar_config(disable=True)
    return model
