"""Every head of a model on one labelled picture: pipelines with joint attention, and vision transformers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Protocol

import torch
from jaxtyping import Float
from torch import Tensor, nn

from diffseg.passes.checks import check_pipeline
from diffseg.passes.denoise import denoiser_pass
from diffseg.settings import Settings
from diffseg.words import word_tokens
from diffseg.zero_shot.chain import starts_at
from diffseg.zero_shot.joint import conditional
from diffseg.zero_shot.layers import is_joint
from diffseg.zero_shot.options import Options
from diffseg.zero_shot.passes import settings_of
from eval.models import is_pipeline, open_pipeline
from eval.segmentation.attention import VitAttention
from eval.segmentation.loading import load_vit
from eval.zero_shot.heads.measure import LayerHeads, mean_of, read_layer
from eval.zero_shot.heads.options import HeadsOptions, refuse_noise
from eval.zero_shot.options import CAPTION, captioned
from tokenrank_guidance.capture import AttentionRecord, capture
from tokenrank_guidance.components import denoiser_of
from tokenrank_guidance.errors import UnsupportedError

EMBEDDED_RESOLUTION, VIT_RESOLUTION = 128, 224


class HeadsReader(Protocol):
    """`model` is the network whose heads are read; `start`: where walks start; `config`: all that counts."""

    start: ClassVar[str]

    @property
    def model(self) -> nn.Module: ...
    @property
    def config(self) -> dict[str, Any]: ...
    def __call__(self, image: Float[Tensor, "3 h w"], word: str) -> list[LayerHeads]: ...


@dataclass(frozen=True, eq=False)
class JointReader:
    """Walks start at the word's tokens; the mean over timesteps and draws of noise."""

    start: ClassVar[str] = "the word"
    pipe: Any
    options: Options
    caption: str
    maps: Sequence[str]

    @property
    def model(self) -> nn.Module:
        return denoiser_of(self.pipe)

    @property
    def config(self) -> dict[str, Any]:
        names = ("timesteps", "draws", "seed", "resolution")
        return {"caption": self.caption} | {name: getattr(self.options, name) for name in names}

    def __call__(self, image: Float[Tensor, "3 h w"], word: str) -> list[LayerHeads]:
        caption = captioned(self.caption, word)
        tokens = word_tokens(self.pipe, caption, [word])
        settings = [
            settings_of(self.options, timestep, draw)
            for timestep in self.options.timesteps
            for draw in range(self.options.draws)
        ]
        return mean_of([self._one(image, caption, tokens, one) for one in settings])

    def _one(
        self, image: Float[Tensor, "3 h w"], caption: str, tokens: list[Tensor], settings: Settings
    ) -> list[LayerHeads]:
        found: list[LayerHeads] = []

        def add(record: AttentionRecord) -> None:
            if record.text is not None:  # SD3.5's second attention has none
                one = conditional(self.pipe, record)
                start = starts_at(tokens, record.text, one.q.new_empty((), dtype=torch.float32), one.tokens)
                found.append(read_layer(one, start[0], self.maps))

        with capture(self.model, "all", reduce=add):
            denoiser_pass(self.pipe, image, settings, caption)
        return found


@dataclass(frozen=True, eq=False)
class VitReader:
    """Walks start at the class token; the word is not used."""

    start: ClassVar[str] = "the class token"
    attention: VitAttention
    maps: Sequence[str]

    @property
    def model(self) -> nn.Module:
        return self.attention.model

    @property
    def config(self) -> dict[str, Any]:
        return {"resolution": self.attention.settings.resolution}

    @torch.no_grad()
    def __call__(self, image: Float[Tensor, "3 h w"], word: str) -> list[LayerHeads]:
        side = self.attention.settings.resolution
        assert side is not None
        found: list[LayerHeads] = []
        with capture(self.model, "all", reduce=lambda record: found.append(self._layer(record))):
            self.attention.run(image, (side, side))
        return found

    def _layer(self, record: AttentionRecord) -> LayerHeads:
        if record.class_token is None:
            raise UnsupportedError(f"{type(self.model).__name__} has no class token for a walk to start at")
        start = torch.zeros(record.tokens, device=record.q.device)
        start[record.class_token] = 1
        return read_layer(record, start, self.maps)


def open_reader(asked: HeadsOptions, device: str) -> HeadsReader:
    """What `--model` names; ValueError, OSError or UnsupportedError where it cannot be read."""
    options = asked.reading
    if not is_pipeline(asked.model):
        refuse_noise(asked)
        settings = Settings(layers="all", resolution=options.resolution or VIT_RESOLUTION)
        return VitReader(load_vit(asked.model, device, asked.dtype, settings), asked.maps)
    model = open_pipeline(asked.model, device, asked.dtype)
    check_pipeline(model.pipe)
    if not is_joint(model.pipe):
        raise UnsupportedError(
            f"{type(model.pipe).__name__} has no text in its maps; FLUX, SD3 and others have"
        )
    if model.embedded and options.resolution is None:
        options = replace(options, resolution=EMBEDDED_RESOLUTION)
    return JointReader(model.pipe, options, asked.caption or CAPTION, asked.maps)
