"""One call of a denoiser, taken apart and put together again."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from sag.parts import Parts
from tokenrank_guidance.families.calling import Calling

Output = Any  # the prediction, a tuple that begins with it, or a diffusers output with a `sample`


@dataclass(frozen=True)
class Given:
    """What a denoiser was called with, in lists and dicts of our own.

    To be taken before the call: UNet2DConditionModel empties the list of T2I-Adapter features given to it.
    """

    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]

    @classmethod
    def take(cls, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Given:
        return cls(tuple(map(_own_containers, args)), _own_containers(dict(kwargs)))

    def named(self, module: nn.Module) -> dict[str, Any]:
        """The arguments under the names that `module.forward` has for them."""
        return dict(zip(_names(module), self.args, strict=False)) | dict(self.kwargs)

    def rows(self, module: nn.Module, calling: Calling, rows: slice, batch: int) -> Given:
        """`rows` of every argument that has `batch` of them, as `calling` takes them."""
        inputs = self.named(module)

        def taken(name: str, value: Any) -> Any:
            if name in calling.shared:
                return value
            own = None if value is None else calling.rows.get(name)
            return take_rows(value, rows, batch) if own is None else own(inputs, rows)

        args = tuple(map(taken, _names(module), self.args))
        return Given(args, {name: taken(name, value) for name, value in self.kwargs.items()})

    def replace(self, module: nn.Module, name: str, value: Any) -> Given:
        """The same call with another value of one argument, by position if that is how it was given."""
        position = _names(module).index(name)
        if position < len(self.args):
            return Given((*self.args[:position], value, *self.args[position + 1 :]), self.kwargs)
        return Given(self.args, {**self.kwargs, name: value})

    def for_autograd(self) -> Given:
        """The same call with tensors that a graph may hold, which those of inference mode may not."""
        args, kwargs = _each_tensor(
            (self.args, self.kwargs), lambda own: own.clone() if own.is_inference() else own
        )
        return Given(args, kwargs)


@dataclass(frozen=True)
class Channels:
    """The scheduler steps the first `count` channels of the output; of the input too, or its last."""

    count: int
    last: bool = False


@dataclass(frozen=True)
class DenoiserCall:
    """The inputs of a denoiser and what it returned.

    `parts` says which rows guidance looks at and which get its shift, `channels` which channels are noisy:
    fewer than the output's with learned sigma, than the input's where a picture or a mask is given beside.
    `compiled` is `torch.compile`'s wrapper of the denoiser, where the pipeline calls that. `angles`: the
    scheduler steps angles, where the denoiser predicts rectified flow. `predicts` names what it predicts,
    where that is not what the scheduler is given.
    """

    module: nn.Module
    calling: Calling
    given: Given
    output: Output
    parts: Parts
    channels: Channels
    compiled: nn.Module | None = None
    angles: bool = False
    predicts: str = ""

    @property
    def prediction(self) -> Float[Tensor, "images *latent"]:
        """The latent channels of the looked-at rows' output, as the scheduler is given it."""
        return self.signed(self.outgoing(self.raw)[self.rows])

    @property
    def raw(self) -> Float[Tensor, "batch *out"]:
        return self.calling.holding.read(predicted(self.output), self.inputs)

    @property
    def inputs(self) -> dict[str, Any]:
        return self.given.named(self.module)

    @property
    def sample(self) -> Float[Tensor, "batch *in"]:
        inputs = self.inputs
        return self.calling.holding.read(inputs[self.calling.sample], inputs).to(self.raw.device)

    @property
    def latents(self) -> Float[Tensor, "images *latent"]:
        """The noisy channels of the looked-at rows."""
        return self.incoming(self.sample)[self.rows]

    @property
    def rows(self) -> slice:
        return self.parts.rows(self.sample.shape[0])

    @property
    def held(self) -> Bool[Tensor, "images *latent"] | None:
        """Which of the looked-at rows' latents are given and not drawn; None where all are drawn."""
        held = self.calling.held(self.module, self.inputs)
        if held is None:
            return None
        held = held.to(self.raw.device).expand(len(self.sample), *held.shape[1:])
        return held[self.rows].expand_as(self.latents)

    def drawn(
        self, changed: Float[Tensor, "images *latent"], given: Float[Tensor, "images *latent"]
    ) -> Float[Tensor, "images *latent"]:
        """`changed`, but `given` where the latents are given."""
        held = self.held
        return changed if held is None else torch.where(held, given, changed)

    def incoming(self, tensor: Float[Tensor, "any *in"]) -> Float[Tensor, "any *latent"]:
        """A view of the noisy channels of an input."""
        axis = self.calling.channel_axis
        first = tensor.shape[axis] - self.channels.count if self.channels.last else 0
        return tensor.narrow(axis, first, self.channels.count)

    def outgoing(self, tensor: Float[Tensor, "any *out"]) -> Float[Tensor, "any *latent"]:
        """A view of the latent channels of an output."""
        return tensor.narrow(self.calling.channel_axis, 0, self.channels.count)

    def signed(self, tensor: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """From the denoiser's sign to the scheduler's, and back."""
        return tensor if self.calling.sign > 0 else -tensor

    def repredict(self, degraded: Float[Tensor, "images *latent"]) -> Float[Tensor, "images *latent"]:
        """The prediction for the looked-at rows with their noisy channels replaced, called as before."""
        whole = self.parts.whole
        rows = slice(None) if whole else self.rows
        sample = self.sample[rows].clone()
        self.incoming(sample).copy_(self.parts.spread(degraded) if whole else degraded)
        holding, name = self.calling.holding, self.calling.sample
        given = self.given.rows(self.module, self.calling, rows, self.sample.shape[0])
        inputs = given.named(self.module)
        given = given.replace(self.module, name, holding.write(inputs[name], sample, inputs))
        denoiser = self.module if self.compiled is None else self.compiled
        output = predicted(denoiser(*given.args, **given.kwargs))
        made = self.outgoing(holding.read(output, inputs))
        return self.signed(made[self.rows] if whole else made)

    def shifted(self, shift: Float[Tensor, "images *latent"]) -> Float[Tensor, "batch *out"]:
        """The raw output with each image's shift added to the latent channels of all its rows."""
        prediction = self.raw.clone()
        self.outgoing(prediction).add_(self.parts.spread(self.signed(shift)))
        return prediction

    def returned(self, prediction: Float[Tensor, "batch *out"]) -> Output:
        """The output with another prediction in it."""
        held = self.calling.holding.write(predicted(self.output), prediction, self.inputs)
        if isinstance(self.output, Tensor):
            return held
        if isinstance(self.output, tuple):
            return (held, *self.output[1:])
        return type(self.output)(**{**self.output, "sample": held})


def predicted(output: Output) -> Any:
    """What holds the prediction in an output."""
    if isinstance(output, Tensor):  # Kandinsky 5's, without a dict
        return output
    return output[0] if isinstance(output, tuple) else output.sample


def _names(module: nn.Module) -> list[str]:
    return list(inspect.signature(type(module).forward).parameters)[1:]


def _own_containers(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _own_containers(item) for key, item in value.items()}
    return [_own_containers(item) for item in value] if isinstance(value, list) else value


def take_rows(value: Any, rows: slice, batch: int) -> Any:
    """`rows` of every tensor with `batch` rows in nested dicts, lists and tuples; all else as it is."""
    if rows == slice(None):
        return value
    return _each_tensor(value, lambda own: own[rows] if own.ndim > 0 and own.shape[0] == batch else own)


def _each_tensor(value: Any, change: Callable[[Tensor], Tensor]) -> Any:
    if isinstance(value, Tensor):
        return change(value)
    if isinstance(value, Mapping):
        return {key: _each_tensor(item, change) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_each_tensor(item, change) for item in value)
    return value
