"""Perturbed-Attention Guidance (Ahn et al. 2024, arXiv 2403.17377), which is diffusers' own."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import diffusers

from sag.settings import Layers
from tokenrank_guidance.components import denoiser_of
from tokenrank_guidance.errors import UnsupportedError
from tokenrank_guidance.quiet import quiet_libraries


def perturbed(pipe: Any, layers: Layers = "") -> Any:
    """diffusers' Perturbed-Attention pipeline over the components of `pipe`, called with `pag_scale`.

    `layers`: names as its `pag_applied_layers` takes, or that pipeline's own. Raises UnsupportedError where
    diffusers has none for this class, and for networks and layers that it cannot perturb.
    """
    name = type(pipe).__name__
    kind = getattr(diffusers, name.replace("Pipeline", "PAGPipeline"), None)
    if kind is None or "PAG" in name:
        raise UnsupportedError(f"diffusers has no PAG for {name}: leave pag out")
    had = {**pipe.config, **pipe.components}
    given = {key: had[key] for key in inspect.signature(kind.__init__).parameters if key in had}
    if layers:
        chosen = layers if isinstance(layers, tuple) else (layers,)
        given["pag_applied_layers"] = [str(layer) for layer in chosen]
    try:
        with quiet_libraries():
            made = kind(**given)
        with processors_kept(made):  # setting them says whether the layers are there
            made._set_pag_attn_processor(made.pag_applied_layers, do_classifier_free_guidance=False)
    except (ValueError, TypeError) as error:
        raise UnsupportedError(f"diffusers' PAG cannot take this {name}: {_first_line(error)}") from error
    made.set_progress_bar_config(disable=True)
    return made


@contextmanager
def processors_kept(pipe: Any) -> Iterator[None]:
    """Attention is after the block as before: PAG takes its processors off only once it is done."""
    denoiser: Any = denoiser_of(pipe)
    before = dict(denoiser.attn_processors)
    try:
        yield
    finally:
        denoiser.set_attn_processor(before)


def _first_line(error: BaseException) -> str:
    return str(error).strip().splitlines()[0][:160]
