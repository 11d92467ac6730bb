"""Loading networks from folders and from the Hub: weights as safetensors alone, and no code."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from tokenrank_guidance.quiet import quiet_libraries

TIMM_WEIGHTS = ("model.safetensors", "open_clip_model.safetensors")


def load_weights(kind: Any, source: str | Path, **options: Any) -> Any:
    """`kind.from_pretrained`, of a class of transformers, of safetensors alone and without running code.

    Raises ValueError, of one line, for whatever cannot be loaded so.
    """
    return load_part(kind, source, use_safetensors=True, **options)


def load_part(kind: Any, source: str | Path, **options: Any) -> Any:
    """The same for what has no weights: a configuration, a tokenizer, an image processor."""
    with refusing(source), quiet_libraries():
        return kind.from_pretrained(source, trust_remote_code=False, **options)


def load_timm(source: str, **options: Any) -> Any:
    """timm's model of a folder or a Hub name, its weights from safetensors alone; ValueError as above."""
    import timm

    with refusing(source):
        where = f"local-dir:{source}" if Path(source).is_dir() else f"hf-hub:{source}"
        weights = {"source": "", "file": str(_timm_weights(source)), "state_dict": None, "custom_load": False}
        return timm.create_model(where, pretrained=True, pretrained_cfg_overlay=weights, **options)


@contextmanager
def refusing(source: object) -> Iterator[None]:
    """Whatever loading raises in the block, but for lack of memory, as a ValueError of one line."""
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError, ImportError):
        raise
    except Exception as error:  # a damaged folder makes the libraries stumble over anything
        raise ValueError(f"no model could be loaded from {source}: {_reason(error)}") from error


def _timm_weights(source: str) -> Path:
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    unreached: LocalEntryNotFoundError | None = None
    for name in TIMM_WEIGHTS:
        if Path(source).is_dir():
            if (Path(source) / name).is_file():
                return Path(source) / name
            continue
        try:
            return Path(hf_hub_download(source, name, local_files_only=unreached is not None))
        except LocalEntryNotFoundError as error:  # which says nothing of what the Hub has
            unreached = unreached or error
        except EntryNotFoundError:
            continue
    if unreached is not None:
        raise unreached
    raise ValueError(f"it has no {' or '.join(TIMM_WEIGHTS)}, and pickled weights are not loaded")


def _reason(error: BaseException) -> str:
    """The first line of what an error says, or of what it comes from: some advise to read the traceback."""
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError

    while error.__cause__ is not None and not isinstance(error, RepositoryNotFoundError):
        error = error.__cause__
    if isinstance(error, GatedRepoError):
        return "its page on the Hub says who may have it; agree to its terms there, then run hf auth login"
    if isinstance(error, RepositoryNotFoundError):
        return "the Hub has nothing of that name that you may see; for what is private run hf auth login"
    return (str(error).strip() or type(error).__name__).splitlines()[0]
