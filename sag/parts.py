"""The parts of a denoiser call's batch: the same images several times, each under another condition."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from sag.caller import Caller
from tokenrank_guidance.errors import UnsupportedError
from tokenrank_guidance.families.calling import Calling, Habits
from tokenrank_guidance.families.registry import guidable


@dataclass(frozen=True)
class Parts:
    """`count` parts of classifier-free guidance, of which guidance looks at the `unconditional` one.

    Rows of a part follow each other, or are `interleaved`: every part of one image, then of the next.
    `whole`: the denoiser tells parts by their place, so that guidance's extra pass must hold all of them.
    """

    count: int = 1
    unconditional: int = 0
    interleaved: bool = False
    whole: bool = False

    def rows(self, batch: int) -> slice:
        """The unconditional part of `batch` rows."""
        if self.count == 1:
            return slice(None)
        if self.interleaved:
            return slice(self.unconditional, None, self.count)
        images = batch // self.count
        return slice(self.unconditional * images, (self.unconditional + 1) * images)

    def spread(self, images: Float[Tensor, "images *any"]) -> Float[Tensor, "batch *any"]:
        """One value for each image, repeated for each of its rows."""
        if self.interleaved:
            return images.repeat_interleave(self.count, 0)
        return torch.cat([images] * self.count) if self.count > 1 else images

    def split(self, batch: Float[Tensor, "batch *any"]) -> list[Float[Tensor, "images *any"]]:
        """The parts, each with one row an image."""
        if self.interleaved:
            return [batch[part :: self.count] for part in range(self.count)]
        return list(batch.chunk(self.count))


def parts_of(caller: Caller | None, calling: Calling, batch: int) -> Parts:
    """The parts of a call with `batch` rows, by the number of images that its pipeline samples.

    A pipeline that keeps its latents elsewhere is asked whether it guides classifier-free. Equal rows prove
    nothing: two images may start from one noise. Where attention is perturbed in the last part (PAG), by
    processors that cut any batch into as many, the first part is looked at: the prompt's, if there is no
    unconditional one. Raises UnsupportedError where it is not known which of three or more parts is without
    the prompt, and for a batch that is no multiple of the images.
    """
    if caller is None:
        return Parts()
    habits = guidable(caller.pipe)
    name = type(caller.pipe).__name__
    count = _count(caller, habits, batch)
    if batch % count:
        raise UnsupportedError(f"{name} gave its denoiser {batch} rows, no multiple of {count} parts")
    if caller.says("do_perturbed_attention_guidance"):
        return Parts(count, 0, whole=True)
    if count > 2 and habits.unconditional is None:
        raise UnsupportedError(
            f"{name} gave its denoiser each image {count} times, and which of them is without the prompt "
            "is not known here"
        )
    unconditional = calling.unconditional if count == 2 else habits.unconditional or 0
    return Parts(count, unconditional if count > 1 else 0, habits.interleaved)


def _count(caller: Caller, habits: Habits, batch: int) -> int:
    latents = caller.tensor(habits.sample)
    if latents is not None and latents.ndim > 0 and batch % max(len(latents), 1) == 0:
        return batch // max(len(latents), 1)
    return 2 if caller.says("do_classifier_free_guidance") else 1
