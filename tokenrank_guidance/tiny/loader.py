"""Loading the embedded pipelines."""

from __future__ import annotations

from pathlib import Path

import torch
from diffusers import DiffusionPipeline

from tokenrank_guidance.files.pretrained import load_part, load_weights
from tokenrank_guidance.files.reading import read_json
from tokenrank_guidance.tiny.architecture import set_resolution
from tokenrank_guidance.tiny.choices import NAMES
from tokenrank_guidance.tiny.tokenizer import CaptionTokenizer

WEIGHTS = Path(__file__).parent / "weights"
MOST_RESOLUTION = 4096


def available_models() -> tuple[str, ...]:
    """Names of the models whose weights are shipped, the better ones first."""
    return tuple(name for name in NAMES if (WEIGHTS / name / "model_index.json").is_file())


def load_pipeline(name: str | None = None, *, dtype: torch.dtype = torch.float32) -> DiffusionPipeline:
    """Load an embedded text-to-image pipeline (by default the better one), on the CPU and without network.

    Its tokenizers warn of words that the model never saw and list those it knows. Raises ValueError for an
    unknown name.
    """
    models = available_models()
    if not models:
        raise ValueError(
            f"no trained weights are in {WEIGHTS}; train one with python -m tokenrank_guidance.tiny.train"
        )
    name = name or models[0]
    if name not in models:
        raise ValueError(f"no embedded model is called {name!r}; expected one of {', '.join(models)}")
    return load_folder(WEIGHTS / name, dtype=dtype)


def load_folder(folder: Path, *, dtype: torch.dtype = torch.float32) -> DiffusionPipeline:
    """Load a pipeline that `tokenrank_guidance.tiny.train` wrote, with caption-aware tokenizers."""
    tokenizers = {
        part: load_part(CaptionTokenizer, folder / part)
        for part in ("tokenizer", "tokenizer_2")
        if (folder / part).is_dir()
    }
    options = {"dtype": dtype, "local_files_only": True, **tokenizers}
    pipe = load_weights(DiffusionPipeline, folder, **options)
    set_resolution(pipe, _resolution(folder / "training.json"))
    return pipe


def _resolution(path: Path) -> int:
    facts = read_json(path)
    resolution = facts.get("resolution") if isinstance(facts, dict) else None
    if not isinstance(resolution, int) or not 0 < resolution <= MOST_RESOLUTION:
        raise ValueError(f"{path} is damaged: its resolution is {resolution!r}, expected a number of pixels")
    return resolution
