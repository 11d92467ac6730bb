"""What one cell of the matrix must show."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor

from sag import SelfAttentionGuidance
from sag.caches import OwnCaches
from sag.call import Given
from tests.matrix.features import Feature
from tests.matrix.rows import STEPS, Arguments, Row, run
from tests.sag.helpers import traces
from tests.tiny_models import Call
from tokenrank_guidance.components import denoiser_of as denoiser
from tokenrank_guidance.families.calling import Calling
from tokenrank_guidance.families.registry import calling_of

SCALE = 0.75
STOPPED = "stopped by the test"


@dataclass
class Seen:
    """One denoiser call: inputs by name, output, and whether it is guidance's own, inside the pipeline's.

    `processors`: those of its attention, which pipelines may exchange while they run.
    """

    inputs: Arguments
    output: Tensor
    own: bool
    processors: dict[str, Any]


def predicted(calling: Calling, inputs: Arguments, output: Any) -> Tensor:
    if isinstance(output, Tensor):  # Kandinsky 5
        return output
    made = output[0] if isinstance(output, tuple) else output.sample
    return calling.holding.read(made, inputs)


@contextmanager
def seen(model: Any) -> Iterator[list[Seen]]:
    """Every call of `model`, as it was given, in the order they ended; enter it after guidance."""
    calls, open_calls, calling = [], [], calling_of(model)  # not in a hook, which Dynamo traces

    def begin(module: Any, args: tuple, kwargs: Arguments) -> None:
        inputs = Given.take(args, kwargs).named(module)
        tensors = {name: value for name, value in inputs.items() if isinstance(value, Tensor)}
        # Copies, since Kandinsky 5 steps its latents in place.
        open_calls.append(inputs | {name: value.clone() for name, value in tensors.items()})

    def end(module: Any, args: tuple, kwargs: Arguments, output: Any) -> None:
        inputs = open_calls.pop()
        used = dict(getattr(module, "attn_processors", {}))
        calls.append(Seen(inputs, predicted(calling, inputs, output).clone(), bool(open_calls), used))

    handles = [
        model.register_forward_pre_hook(begin, with_kwargs=True),
        model.register_forward_hook(end, with_kwargs=True),
    ]
    try:
        yield calls
    finally:
        for handle in handles:
            handle.remove()


def prepared(row: Row, feature: Feature) -> tuple[Any, Arguments]:
    """The pipeline with the feature on it, and its call's arguments."""
    pipe = feature.prepare(row.build())
    return pipe, feature.arguments(pipe, row.arguments(feature.call(Call(steps=STEPS))))


def check(row: Row, feature: Feature) -> None:
    """Scale 0 changes no bit; guided images are finite and others; the method is what ran.

    Nothing stays behind, neither at the end nor after an error or an interrupt.
    """
    pipe, arguments = prepared(row, feature)
    model = denoiser(pipe)
    plain = run(pipe, arguments)
    before, state = traces(model), weights(model)
    with SelfAttentionGuidance(sag_scale=0)(pipe):
        assert torch.equal(run(pipe, arguments), plain), "scale 0 changed the result"
    with SelfAttentionGuidance(sag_scale=SCALE)(pipe) as guidance:
        guided = run(pipe, arguments)
    assert traces(model) == before, "something was left on the denoiser"
    assert torch.isfinite(guided).all(), "the guided result is not finite"
    assert not torch.equal(guided, plain), "guidance changed nothing"
    assert guidance.steps, "no step was guided"
    for step in guidance.steps:
        chosen = step.mask.flatten(1).float().mean(1)
        assert ((chosen > 0) & (chosen < 1)).all(), f"the mask holds {chosen.tolist()} of the tokens"
    with SelfAttentionGuidance(sag_scale=SCALE, keep_contrast=0.0)(pipe) as published, seen(model) as calls:
        run(pipe, arguments)
    bare = 0 if OwnCaches(model) else sum(step.noise_alone for step in published.steps)
    check_calls(model, calls, len(published.steps) - bare, row)
    for error in (RuntimeError, KeyboardInterrupt):
        with pytest.raises(error, match=STOPPED), SelfAttentionGuidance()(pipe), stopped(model, error):
            run(pipe, arguments)
        left = [name for name, value in traces(model).items() if value != before[name]]
        assert set(left) <= set(row.leaves), f"{left} left on the denoiser after {error.__name__}"
    assert all(torch.equal(value, state[name]) for name, value in weights(model).items()), "weights changed"
    assert torch.equal(run(pipe, arguments), plain), "the pipeline is no longer the plain one"


@contextmanager
def stopped(model: Any, error: type[BaseException]) -> Iterator[None]:
    """Raise `error` as the second call begins; enter it after guidance."""
    calls = []

    def stop(*_: object) -> None:
        calls.append(None)
        if len(calls) == 2:
            raise error(STOPPED)

    handle = model.register_forward_pre_hook(stop)
    try:
        yield
    finally:
        handle.remove()


def weights(model: Any) -> dict[str, Tensor]:
    """Copies of all that is not offloaded to the meta device."""
    return {name: value.clone() for name, value in model.state_dict().items() if not value.is_meta}


def check_calls(model: Any, calls: list[Seen], guided: int, row: Row) -> None:
    """Guidance's own calls got all that the pipeline's got, and shifted its outputs by s(ε − ε̂)."""
    pairs = [(own, main) for own, main in pairwise(calls) if own.own]
    assert len(pairs) == guided, f"{guided} guided steps, but {len(pairs)} extra calls of {len(calls)}"
    for own, main in pairs:
        rows = own.output.shape[0]
        for name in main.inputs.keys() - {calling_of(model).sample, "return_dict"}:
            assert alike(own.inputs[name], main.inputs[name], rows), f"{name} did not reach the extra call"
    check_shift(model, *pairs[-1], row)


def alike(own: Any, main: Any, rows: int) -> bool:
    """Whether `own` is `main`, or one part of it wherever that has rows."""
    if isinstance(main, Tensor):
        if own.shape == main.shape:
            return torch.equal(own, main)
        if own.shape[0] == main.shape[0]:  # states of all layers, with the rows on their second axis
            own, main = own.transpose(0, 1), main.transpose(0, 1)
        elif own.ndim > 1 and own.shape[1] < main.shape[1]:  # residuals, without a longer prompt's padding
            main = main[:, : own.shape[1]]
        return any(torch.equal(own, part) for part in parts_of(main, len(own)))  # rows may be of frames
    if isinstance(main, dict) and own.keys() != main.keys():  # by row: OmniGen's places of pictures
        parts = range(0, max(main) + 1, rows)
        return any(own == {row - part: main[row] for row in main if 0 <= row - part < rows} for part in parts)
    if isinstance(main, dict):
        return own.keys() == main.keys() and all(alike(own[key], main[key], rows) for key in main)
    if isinstance(main, list) and len(own) < len(main):
        parts = [part for part in [*parts_of(main, rows), main[: len(own)]] if len(part) == len(own)]
        return any(alike(own, part, rows) for part in parts)
    if isinstance(main, list | tuple):
        return all(alike(*pair, rows) for pair in zip(own, main, strict=True))
    return own is main or own == main


def parts_of(batch: Any, rows: int) -> list[Any]:
    """Whatever may be a part of `rows` rows: one after the other, or a row of each image."""
    count = len(batch) // rows
    parts = [batch[part * rows : (part + 1) * rows] for part in range(count)]
    return [*parts, *[batch[part::count] for part in range(count)]]


def copied(inputs: Arguments) -> Arguments:
    """The denoiser may empty the lists that it is given."""
    return {name: list(value) if isinstance(value, list) else value for name, value in inputs.items()}


def called_again(model: Any, inputs: Arguments) -> Any:
    """By position where the pipeline does so: tomesd reads it there."""
    given = copied(inputs)
    if "return_dict" in inspect.signature(type(model).forward).parameters:  # not in Würstchen's
        given["return_dict"] = False
    first = [given.pop(name) for name in ("sample", "timestep") if hasattr(model, "_tome_info")]
    return model(*first, **given)


@contextmanager
def attending_by(model: Any, processors: dict[str, Any]) -> Iterator[None]:
    """With these processors, where the model has others by now."""
    own = dict(getattr(model, "attn_processors", {}))
    if all(processors[name] is one for name, one in own.items()):
        yield
        return
    model.set_attn_processor(dict(processors))
    try:
        yield
    finally:
        model.set_attn_processor(own)


@torch.no_grad()
def check_shift(model: Any, own: Seen, main: Seen, row: Row) -> None:
    """Both calls again, now unguided: the pipeline received its own output plus s(ε − ε̂) in every row.

    What is given and not drawn got nothing.
    """
    calling, rows = calling_of(model), own.output.shape[0]
    context = model.cache_context("cond") if hasattr(model, "cache_context") else nullcontext()
    with context, attending_by(model, main.processors):
        plain = predicted(calling, main.inputs, called_again(model, main.inputs))
        again = predicted(calling, own.inputs, called_again(model, own.inputs))
    torch.testing.assert_close(again, own.output)
    axis = calling.channel_axis
    sample = calling.holding.read(main.inputs[calling.sample], main.inputs)
    given, made = sample.shape[axis], plain.shape[axis]
    noisy = made // 2 if (given, made) == (9, 8) else row.channels or min(given, made)  # learned sigma
    found = (main.output - plain).narrow(axis, 0, noisy)
    count = plain.shape[0] // rows
    candidates = []
    for part in parts_of(plain, rows):
        shift = SCALE * (part - again).narrow(axis, 0, noisy)
        candidates += [torch.cat([shift] * count), shift.repeat_interleave(count, 0)]
    for parts in (2, 3):  # the extra call held as many, and the first of them was looked at
        if count == 1 and rows % parts == 0:
            shift = SCALE * (plain - again)[: rows // parts].narrow(axis, 0, noisy)
            candidates.append(torch.cat([shift] * parts))
    assert found.count_nonzero() == row.drawn(found).count_nonzero(), "what is given was shifted"
    errors = [row.drawn(found - whole).abs().max().item() for whole in candidates]
    limit = 16 * torch.finfo(plain.dtype).eps * max(1.0, plain.abs().max().item())
    assert min(errors) <= limit, f"the output is {min(errors):g} from ε + s(ε − ε̂); allowed are {limit:g}"
    assert found.abs().max() > 0, "the last guided output is not shifted"
