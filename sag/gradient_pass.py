"""The pass that scorers of gradients need: the same input again, forward and back."""

from __future__ import annotations

from dataclasses import replace

import torch

from sag.call import DenoiserCall
from tokenrank_guidance.capture import AttentionTap, GradientRecord
from tokenrank_guidance.capture.gradients import extra_gradients
from tokenrank_guidance.errors import CaptureError


class GradientPass:
    """Repeats denoiser calls with a graph from the ranked layers on, which no other hook of ours sees."""

    def __init__(self, tap: AttentionTap) -> None:
        self._tap = AttentionTap(tap.model, tap.layers, detach=False)

    def of(self, call: DenoiserCall) -> list[GradientRecord]:
        """Attention of the looked-at rows with ∂y/∂(its output), y = ½‖ε‖² of what is drawn of each.

        Not compiled: graphs without gradients were. Raises CaptureError where a layer has no such derivative.
        """
        with extra_gradients(self._tap) as attention:
            own = replace(call, given=call.given.for_autograd(), compiled=None)
            try:
                made = own.repredict(own.latents.clone())
                energy = own.drawn(made, torch.zeros_like(made)).float().square().sum() / 2
                records = attention.records_of(energy)
            except (CaptureError, torch.OutOfMemoryError):
                raise
            except RuntimeError as error:
                name = type(call.module).__name__
                raise CaptureError(f"no gradient goes back through {name}: {error}") from error
        return [record.images(call.rows) for record in records] if call.parts.whole else records
