"""What a model's name means: files of a folder, or of a repository on the Hub or in its cache."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tokenrank_guidance.files.reading import read_json

TIMM = "timm/"
PIPELINE, CONFIG = "model_index.json", "config.json"


def first_of(name: str, files: Sequence[str]) -> Path | None:
    """The first of these files that a folder or the Hub's repository `name` has, downloaded where need be.

    None where it has none of them, or where nothing of it can be had: loading says why.
    """
    if Path(name).is_dir():
        return next((Path(name) / file for file in files if (Path(name) / file).is_file()), None)
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError, LocalEntryNotFoundError

    cached = False
    for file in files:
        try:
            return Path(hf_hub_download(name, file, local_files_only=cached))
        except LocalEntryNotFoundError:  # the Hub cannot be reached, and waiting for it once is enough
            cached = True
        except EntryNotFoundError:
            continue
        except (HfHubHTTPError, OSError, ValueError):
            return None
    return None


def is_timm(name: str) -> bool:
    """Whether it is timm's: by its name, or by a configuration in timm's form.

    Raises ValueError for a configuration that cannot be read.
    """
    if name.startswith(TIMM):
        return True
    path = first_of(name, [CONFIG])
    config = {} if path is None else read_json(path)
    if not isinstance(config, dict):
        raise ValueError(f"{path} is no configuration of a model: it holds a {type(config).__name__}")
    return "architecture" in config
