"""One call of a denoiser, taken apart and put together again."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from sag.families import Family

Output = Any  # the prediction, a tuple that begins with it, or a diffusers output with a `sample`


@dataclass(frozen=True)
class DenoiserCall:
    """The named inputs of a denoiser and what it returned.

    `rows` are those that guidance looks at: all of them, or the unconditional half where the batch holds both
    halves of classifier-free guidance (`doubled`).
    """

    module: nn.Module
    family: Family
    inputs: Mapping[str, Any]
    output: Output
    doubled: bool

    @property
    def prediction(self) -> Float[Tensor, "batch *out"]:
        """The output as the scheduler is given it."""
        return _signed(self._raw, self.family.sign)

    @property
    def _raw(self) -> Float[Tensor, "batch *out"]:
        return _predicted(self.output)

    @property
    def sample(self) -> Float[Tensor, "batch *in"]:
        return self.inputs[self.family.sample].to(self.prediction.device)

    @property
    def rows(self) -> slice:
        if not self.doubled:
            return slice(None)
        half = self.sample.shape[0] // 2
        return slice(half) if self.family.unconditional == 0 else slice(half, None)

    @property
    def channels(self) -> int:
        """Latent channels: fewer than the output's with learned sigma, than the input's when inpainting."""
        axis = self.family.channel_axis
        given, made = self.sample.shape[axis], self._raw.shape[axis]
        if given == made + 1:  # two pictures' latents and a mask come in, latents and their sigma go out
            return made // 2
        return min(given, made)

    def latent(self, tensor: Float[Tensor, "batch *any"]) -> Float[Tensor, "batch *latent"]:
        """A view of the latent channels of an input or output."""
        return tensor.narrow(self.family.channel_axis, 0, self.channels)

    def repredict(self, degraded: Float[Tensor, "rows *latent"]) -> Float[Tensor, "rows *latent"]:
        """The prediction for the chosen rows with their latent channels replaced by `degraded`."""
        size = self.sample.shape[0]
        inputs = {name: take_rows(value, self.rows, size) for name, value in self.inputs.items()}
        sample = self.sample[self.rows].clone()
        self.latent(sample).copy_(degraded)
        output = self.module(**(inputs | {self.family.sample: sample, "return_dict": False}))
        return _signed(self.latent(_predicted(output)), self.family.sign)

    def shifted(self, shift: Float[Tensor, "rows *latent"]) -> Output:
        """The output with `shift` added to the latent channels of every row, of both halves alike."""
        prediction, shift = self._raw.clone(), _signed(shift, self.family.sign)
        self.latent(prediction).add_(torch.cat([shift, shift]) if self.doubled else shift)
        if isinstance(self.output, Tensor):
            return prediction
        if isinstance(self.output, tuple):
            return (prediction, *self.output[1:])
        return type(self.output)(**{**self.output, "sample": prediction})


def _predicted(output: Output) -> Float[Tensor, "batch *out"]:
    if isinstance(output, Tensor):  # Kandinsky 5's, without a dict
        return output
    return output[0] if isinstance(output, tuple) else output.sample


def _signed(tensor: Float[Tensor, "..."], sign: int) -> Float[Tensor, "..."]:
    return tensor if sign > 0 else -tensor


def named_inputs(module: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments of `module.forward` under their names, in lists and dicts of our own.

    To be taken before the call: UNet2DConditionModel empties the list of T2I-Adapter features given to it.
    """
    names = list(inspect.signature(type(module).forward).parameters)[1:]
    given = dict(zip(names, args, strict=False)) | dict(kwargs)
    return {name: _own_containers(value) for name, value in given.items()}


def _own_containers(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _own_containers(item) for key, item in value.items()}
    return [_own_containers(item) for item in value] if isinstance(value, list) else value


def take_rows(value: Any, rows: slice, batch: int) -> Any:
    """`rows` of every tensor with `batch` rows in nested dicts, lists and tuples; all else as it is."""
    if rows == slice(None):
        return value
    if isinstance(value, Tensor):
        return value[rows] if value.ndim > 0 and value.shape[0] == batch else value
    if isinstance(value, Mapping):
        return {key: take_rows(item, rows, batch) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(take_rows(item, rows, batch) for item in value)
    return value
