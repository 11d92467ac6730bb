"""Which pipeline `--model` means."""

from __future__ import annotations

from argparse import Namespace
from dataclasses import dataclass
from pathlib import Path

import torch
from diffusers import DiffusionPipeline
from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id

from tokenrank_guidance.devices import DTYPES, usable_device, warn_of_slow_numbers
from tokenrank_guidance.files.pretrained import load_weights
from tokenrank_guidance.messages import say
from tokenrank_guidance.schedulers import exchange_scheduler
from tokenrank_guidance.tiny.loader import available_models, load_folder, load_pipeline

EMBEDDED_CFG = 4.0


@dataclass(frozen=True)
class Model:
    """A loaded pipeline; `embedded` ones are the package's own miniatures, whose captions are known."""

    name: str
    pipe: DiffusionPipeline
    embedded: bool

    def cfg(self, asked: float | None) -> float | None:
        """Classifier-free guidance: as asked for, else `EMBEDDED_CFG`, or None for the pipeline's own."""
        return EMBEDDED_CFG if asked is None and self.embedded else asked


def open_model(arguments: Namespace) -> Model:
    """The command line's model on its device, with its scheduler; errors are those of `load_model`."""
    device = usable_device(arguments.device)
    model = load_model(arguments.model, device, DTYPES[arguments.dtype])
    say(f"model: {model.name} on {device}")
    if arguments.scheduler is not None:
        exchange_scheduler(model.pipe, arguments.scheduler)
    return model


def load_model(name: str | None, device: str, dtype: torch.dtype) -> Model:
    """Load an embedded model (by default the better one), a pipeline's folder, or one from the Hub.

    Raises ValueError for what is none of them, and where loading fails.
    """
    warn_of_slow_numbers(dtype, device)
    shipped = available_models()
    if name is None and not shipped:
        raise ValueError("this installation lacks the embedded models' weights; choose a --model")
    name = name or shipped[0]
    folder = Path(name)
    embedded = name in shipped or (folder / "training.json").is_file()
    if name in shipped:
        pipe = load_pipeline(name, dtype=dtype)
    elif embedded:
        pipe = load_folder(folder, dtype=dtype)
    else:
        pipe = _pretrained(name, dtype)
    return Model(name, pipe.to(device), embedded)


def _pretrained(name: str, dtype: torch.dtype) -> DiffusionPipeline:
    if not Path(name).is_dir():
        _check_hub_id(name)
    return load_weights(DiffusionPipeline, name, dtype=dtype)


def _check_hub_id(name: str) -> None:
    try:
        validate_repo_id(name)
        known = "/" in name
    except HFValidationError:
        known = False
    if not known:
        models = ", ".join(available_models())
        raise ValueError(
            f"no model {name!r}; expected one of {models}, a pipeline's folder or a Hub id OWNER/NAME"
        )
