"""How a heat map becomes a mask, in the runs that were published and in ours."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import numpy as np
    from jaxtyping import Bool, Float
    from torch import Tensor


@dataclass(frozen=True)
class Protocol:
    """resolution: √(pixels) that the model works at, None for its own. Maps come to the masks' size by
    `resampling`; foreground is above the mean of the map, there, or `at_tokens`, before it is resized.
    """

    resolution: int | None = None
    resampling: Literal["bilinear", "nearest"] = "bilinear"
    at_tokens: bool = False

    def read(
        self, heat: Float[Tensor, "gh gw"], size: tuple[int, int]
    ) -> tuple[Float[np.ndarray, "h w"], Bool[np.ndarray, "h w"]]:
        """The map at `size`, min-max scaled, and its foreground."""
        import torch

        from eval.metrics.foreground import foreground, min_max

        scaled = min_max(resized(heat, size, self.resampling))
        if not self.at_tokens:
            return scaled, foreground(scaled)
        small = torch.from_numpy(foreground(min_max(heat.cpu().double().numpy())))
        return scaled, resized(small, size, "nearest") > 0.5


OWN_SIZE = Protocol()
PROTOCOLS = {
    # Chefer et al. 2021, which both of the others name: 224×224, half-pixel centres.
    "own-size": OWN_SIZE,
    # Helbling et al. 2025, as their script runs: 64×64 tokens, thresholded there.
    "concept-attention": Protocol(1024, "nearest", at_tokens=True),
    # Erel et al. 2025, as their FLUX demo runs: 32×32 tokens.
    "attention-chains": Protocol(512, "nearest"),
}


def resized(
    heat: Float[Tensor, "gh gw"] | Bool[Tensor, "gh gw"], size: tuple[int, int], resampling: str = "bilinear"
) -> Float[np.ndarray, "h w"]:
    """Half-pixel centres."""
    import torch.nn.functional as F

    centres = {"align_corners": False} if resampling == "bilinear" else {}
    mode = "bilinear" if resampling == "bilinear" else "nearest-exact"
    return F.interpolate(heat[None, None].cpu().double(), size, mode=mode, **centres)[0, 0].numpy()
