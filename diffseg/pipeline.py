"""Segmentation by any diffusers pipeline."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from diffseg.chain import segment_maps
from diffseg.maps.aggregate import ResolutionMeans
from diffseg.naming import Naming, word_maps
from diffseg.passes.checks import check_pipeline
from diffseg.passes.denoise import denoiser_pass
from diffseg.passes.images import Rgb, read_images
from diffseg.result import Segmentation
from diffseg.settings import Settings, make_settings
from diffseg.vote import Vote, name_segments
from tokenrank_guidance.capture import capture
from tokenrank_guidance.components import denoiser_of
from tokenrank_guidance.families.registry import words_of


@dataclass(frozen=True, eq=False)
class DiffSeg:
    """Segments images by the self-attention of a diffusion model: nothing is trained, no prompt is needed.

        segmenter = DiffSeg.from_pipe(pipe)
        labels = segmenter(image).labels            # (h, w), of the image's own size

    One unconditional denoiser pass gives every self-attention map; image tokens alone count, renormalised.
    Sources: Tian et al., CVPR 2024 (DiffSeg); anchors by TokenRank, Erel et al., NeurIPS 2025.
    """

    pipe: Any
    settings: Settings

    @classmethod
    def from_pipe(cls, pipe: Any, preset: str = "default", **changes: Any) -> DiffSeg:
        """A segmenter with a preset's settings ("default" or "reference") and some of them changed.

        `changes` are fields of `Settings`, by keyword; raises ValueError for others, and UnsupportedError,
        with the reason, for a pipeline that cannot be used. Inpainting models see an empty mask.
        """
        check_pipeline(pipe)
        return cls(pipe, make_settings(preset, changes))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({type(self.pipe).__name__}, {self.settings})"

    def __call__(
        self,
        images: Any,
        caption: str | Sequence[str] | None = None,
        nouns: Sequence[str] | None = None,
        vote: Vote = "majority",
    ) -> Any:
        """One `Segmentation` for one image, a list of them for a batch; see `read_images` for what is one.

        Images may differ in size. They go through the model one by one: a 64×64 map is 64 MiB for each, and
        so a result cannot depend on what else is in the batch. With a `caption` (one, or one for each image),
        a second pass under it names segments by `nouns`, words of the caption, by default all but its
        function words; `vote` is how pixels decide ("majority" or "mean").
        """
        if caption is not None:
            words_of(self.pipe)
        read, single = read_images(images)
        namings = self._namings(caption, nouns, vote, len(read))
        results = [self._one(image, naming) for image, naming in zip(read, namings, strict=True)]
        return results[0] if single else results

    def _one(self, image: Rgb, naming: Naming | None) -> Segmentation:
        settings, size = self.settings, (image.shape[1], image.shape[2])
        means = ResolutionMeans(settings.dtype, settings.max_tokens)
        with capture(denoiser_of(self.pipe), settings.layers, reduce=means.add):
            denoiser_pass(self.pipe, image, settings)
        result = segment_maps(means.maps(), size, settings)[0]
        if naming is None:
            return result
        words = word_maps(self.pipe, image, settings, naming)
        return replace(result, names=name_segments(result, words, naming.nouns, naming.vote))

    def _namings(
        self, caption: str | Sequence[str] | None, nouns: Sequence[str] | None, vote: Vote, count: int
    ) -> list[Naming | None]:
        if caption is None:
            if nouns is not None:
                raise ValueError("nouns are words of a caption; pass caption too")
            return [None] * count
        captions = [caption] * count if isinstance(caption, str) else list(caption)
        if len(captions) != count:
            raise ValueError(f"caption: got {len(captions)} for {count} images")
        return [Naming.of(self.pipe, text, nouns, vote) for text in captions]
