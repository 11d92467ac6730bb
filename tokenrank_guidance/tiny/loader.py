"""Loading the embedded pipelines."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from diffusers import DiffusionPipeline
from diffusers.utils import logging as diffusers_logging
from transformers.utils import logging as transformers_logging

from tokenrank_guidance.tiny.architecture import PIXELS_PER_LATENT
from tokenrank_guidance.tiny.tokenizer import CaptionTokenizer

WEIGHTS = Path(__file__).parent / "weights"
PREFERENCE = ("tiny-flux", "tiny-sd")  # the better one first


def available_models() -> tuple[str, ...]:
    """Names of the models whose weights are shipped, the better ones first."""
    return tuple(name for name in PREFERENCE if (WEIGHTS / name / "model_index.json").is_file())


def load_pipeline(name: str | None = None, *, dtype: torch.dtype = torch.float32) -> DiffusionPipeline:
    """Load an embedded text-to-image pipeline (by default the better one), on the CPU and without network.

    Its tokenizers warn of words that the model never saw and list those it knows. Raises ValueError for an
    unknown name.
    """
    models = available_models()
    name = name or models[0]
    if name not in models:
        raise ValueError(f"no embedded model is called {name!r}; expected one of {', '.join(models)}")
    return load_folder(WEIGHTS / name, dtype=dtype)


def load_folder(folder: Path, *, dtype: torch.dtype = torch.float32) -> DiffusionPipeline:
    """Load a pipeline that `tokenrank_guidance.tiny.train` wrote, with caption-aware tokenizers."""
    tokenizers = {
        part: CaptionTokenizer.from_pretrained(folder / part)
        for part in ("tokenizer", "tokenizer_2")
        if (folder / part).is_dir()
    }
    with _quiet():
        pipe = DiffusionPipeline.from_pretrained(folder, dtype=dtype, local_files_only=True, **tokenizers)
    facts = json.loads((folder / "training.json").read_text())
    pipe.default_sample_size = facts["resolution"] // PIXELS_PER_LATENT  # FLUX's own default is 512 px here
    return pipe


@contextmanager
def _quiet() -> Iterator[None]:
    """No loading bars, and no remark that the autoencoder is an AutoencoderTiny."""
    verbosity = diffusers_logging.get_verbosity()
    diffusers_logging.set_verbosity_error()
    bars = diffusers_logging.is_progress_bar_enabled(), transformers_logging.is_progress_bar_enabled()
    diffusers_logging.disable_progress_bar()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        diffusers_logging.set_verbosity(verbosity)
        for module, shown in zip((diffusers_logging, transformers_logging), bars, strict=True):
            if shown:
                module.enable_progress_bar()
