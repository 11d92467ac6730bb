"""Running a pipeline for its attention: on given images, and while it draws."""

from __future__ import annotations

import inspect
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from diffseg.passes.denoise import denoiser_pass
from diffseg.passes.images import Rgb
from diffseg.settings import Settings
from diffseg.zero_shot.collect import Collector, Heat, Reading
from diffseg.zero_shot.options import Options
from tokenrank_guidance import calls
from tokenrank_guidance.capture import is_unwatched
from tokenrank_guidance.capture.eager import eager
from tokenrank_guidance.components import denoiser_of
from tokenrank_guidance.errors import UnsupportedError
from tokenrank_guidance.families.registry import habits_of, takes_pictures, words_of

REWRITING = {"enable_prompt_rewrite", "use_pe"}  # of the prompt by a language model, so that words move
Wanted = Callable[[Mapping[str, Any]], bool]


@dataclass(frozen=True)
class Generate:
    """An image or a video to draw, and to segment meanwhile; None leaves the choice to the pipeline.

    `frames`: how many a video has. `given`: pictures that the call takes, such as {"image": picture} where a
    video starts from one. Raises ValueError for what is not a text, other names, and for numbers that nothing
    can be drawn with.
    """

    prompt: str
    steps: int = 4
    seed: int = 0
    cfg: float | None = None
    negative_prompt: str | None = None
    height: int | None = None
    width: int | None = None
    frames: int | None = None
    given: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not isinstance(self.prompt, str):
            raise ValueError(f"prompt: got {self.prompt!r}, expected a text")
        if not isinstance(self.given, Mapping) or not set(self.given) <= set(calls.GIVEN):
            names = ", ".join(calls.GIVEN)
            raise ValueError(f"given: got {self.given!r}, expected pictures or videos by name, of {names}")
        calls.Job(self.prompt, self.seed)
        self.sampling  # noqa: B018 - for its checks

    @property
    def sampling(self) -> calls.Sampling:
        """How it is drawn."""
        size = (self.height, self.width, self.frames)
        return calls.Sampling(self.steps, self.cfg, self.negative_prompt, *size)


@dataclass(frozen=True, eq=False)
class Drawn:
    """What was read: its `size` in pixels, (h, w), or (frames, h, w) of a video; and if it was drawn, it."""

    size: tuple[int, ...]
    image: Any = None
    frames: tuple[Any, ...] = ()

    @classmethod
    def of(cls, output: Any) -> Drawn:
        """The one image or video of a pipeline's output."""
        frames = tuple(output.frames[0]) if hasattr(output, "frames") else ()
        image = frames[0] if frames else output.images[0]
        size = (image.height, image.width)
        return cls((len(frames), *size), None, frames) if frames else cls(size, image)


@dataclass(eq=False)
class Sums:
    """Heat maps by the collectors, their options and by step, with the number of passes."""

    totals: dict[tuple[int, int], dict[int, Heat]] = field(default_factory=dict)
    counts: Counter[tuple[int, int]] = field(default_factory=Counter)

    def add(self, collector: int, step: int, heats: Sequence[Heat]) -> None:
        self.counts[collector, step] += 1
        for place, heat in enumerate(heats):
            total = self.totals.setdefault((collector, place), {})
            total[step] = total[step] + heat.cpu() if step in total else heat.cpu()

    def means(self) -> list[Float[Tensor, "steps concepts *grid"]]:
        """For the options of the first collector, then of the next."""
        return [
            torch.stack([total[step] / self.counts[collector, step] for step in sorted(total)])
            for (collector, _), total in sorted(self.totals.items())
        ]


@torch.no_grad()
def image_passes(reading: Reading, collectors: Sequence[Collector], image: Rgb, caption: str) -> Sums:
    """Noise the encoded image to each timestep, `draws` times, and pass it through the denoiser."""
    options, sums = collectors[0].options[0], Sums()
    with reading_passes(reading, collectors, sums, lambda inputs: True):
        for reading.current.step, timestep in enumerate(options.timesteps):
            for draw in range(options.draws):
                denoiser_pass(reading.pipe, image, settings_of(options, timestep, draw), caption)
    return sums


@torch.no_grad()
def drawing_passes(
    reading: Reading, collectors: Sequence[Collector], request: Generate
) -> tuple[Sums, Drawn]:
    """Draw and read the conditional pass of every step; also returns what was drawn."""
    sums = Sums()
    reading.current.counting = 1
    with reading_passes(reading, collectors, sums, ConditionalCalls()), calls.finite_pictures(reading.pipe):
        output = reading.pipe(**arguments_of(reading.pipe, request))
    return sums, Drawn.of(output)


class ConditionalCalls:
    """Tells the calls under the prompt: FLUX makes two of each step, under the prompt first.

    Denoisers that are given their text by another name are called once a step, for both halves.
    """

    def __init__(self) -> None:
        self._text: Tensor | None = None

    def __call__(self, inputs: Mapping[str, Any]) -> bool:
        text = inputs.get("encoder_hidden_states")
        if text is None:
            return True
        first = text if self._text is None else self._text
        self._text = first
        return text is first or (text.shape == first.shape and torch.equal(text, first))


@contextmanager
def reading_passes(
    reading: Reading, collectors: Sequence[Collector], sums: Sums, wanted: Wanted
) -> Iterator[None]:
    """Let the collectors see the wanted passes; nothing stays on the model, however it ends."""
    model, current = denoiser_of(reading.pipe), reading.current

    def begin(module: Any, args: Any, inputs: Mapping[str, Any]) -> None:
        if not is_unwatched():
            current.chosen = wanted(inputs)

    def end(module: Any, args: Any, output: Any) -> None:
        if current.wanted:
            current.chosen = False
            for place, collector in enumerate(collectors):
                if not collector.whole:
                    sums.add(place, current.step, collector.finish())
            current.step += current.counting

    with ExitStack() as stack:
        for handle in (
            model.register_forward_pre_hook(eager(begin), with_kwargs=True),
            model.register_forward_hook(eager(end)),
        ):
            stack.callback(handle.remove)
        for collector in collectors:
            stack.enter_context(collector.watching())
        yield
    for place, collector in enumerate(collectors):
        if collector.whole:
            sums.add(place, 0, collector.finish())


def settings_of(options: Options, timestep: int, draw: int) -> Settings:
    """One noised pass."""
    return Settings(
        timestep=timestep, add_noise=True, resolution=options.resolution, seed=options.seed + draw
    )


def arguments_of(pipe: Any, request: Generate) -> dict[str, Any]:
    """What to call the pipeline with; UnsupportedError for what it does not take, and for what it lacks."""
    taken = inspect.signature(pipe.__call__).parameters
    pictures = [name for name in calls.GIVEN if name in taken]
    unknown = sorted(set(request.given) - set(pictures))
    if unknown:
        raise UnsupportedError(f"{type(pipe).__name__} does not take {', '.join(unknown)}")
    if pictures and not request.given and not habits_of(pipe).draws_alone:
        advice = "give the picture to segment" if takes_pictures(pipe) else "name it in Generate's given"
        raise UnsupportedError(
            f"{type(pipe).__name__} cannot draw from a prompt alone, it takes {', '.join(pictures)}; {advice}"
        )
    arguments = calls.call_arguments(pipe, request.sampling, [calls.Job(request.prompt, request.seed)])
    if calls.length_of(pipe):
        arguments["output_type"] = "pil"  # for some draw arrays by default
    if habits_of(pipe).negative is not None:
        arguments.setdefault("negative_prompt", [habits_of(pipe).negative])
    arguments |= request.given
    arguments |= dict.fromkeys(REWRITING & taken.keys(), False)
    if "max_sequence_length" in taken:
        arguments["max_sequence_length"] = words_of(pipe).longest(pipe)
    return arguments
