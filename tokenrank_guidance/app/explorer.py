"""The explorer without its page: models, pictures and passes that are kept, and what each state shows."""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from PIL import Image

from tokenrank_guidance.app import chains, guided, segments
from tokenrank_guidance.app.models import Opened, open_model
from tokenrank_guidance.app.passes import Captured, run_pass
from tokenrank_guidance.app.scene import Scene
from tokenrank_guidance.app.state import Source, State
from tokenrank_guidance.app.watching import Watch
from tokenrank_guidance.files.pictures import to_rgb

MOST_MODELS, MOST_PASSES, MOST_SCENES = 2, 64, 16
MOST_PIXELS = 2**27  # of all given pictures together
KEPT_PASSES = 4  # how many passes of full size stay
QUIET = Watch()


@dataclass(frozen=True)
class Settings:
    """models: those of the menu, the first by default; `free`: others may be typed. device, dtype: theirs.

    memory: bytes of queries and keys that a pass may keep.
    """

    models: tuple[str, ...]
    free: bool = True
    device: str = "cpu"
    dtype: torch.dtype = torch.float32
    memory: int = 2**28


class Explorer:
    """Computes scenes.

    What is kept is never changed, and is found by what it was made from, so that those who look at different
    things cannot get each other's; work on models is one at a time.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._work, self._books = threading.RLock(), threading.Lock()
        self._models: OrderedDict[str, Opened] = OrderedDict()
        self._pictures: OrderedDict[str, Image.Image] = OrderedDict()
        self._passes: OrderedDict[Source, Captured] = OrderedDict()
        self._scenes: OrderedDict[Any, Scene] = OrderedDict()

    def keep_picture(self, picture: Image.Image) -> str:
        """Keep a picture for links to it; returns its SHA-256, over mode, size, pixels and their colours.

        ValueError for pixels that cannot be shown.
        """
        colours = to_rgb(picture).tobytes()
        described = f"{picture.mode} {picture.size}".encode()
        digest = hashlib.sha256(described + picture.tobytes() + colours).hexdigest()
        with self._books:
            self._pictures[digest] = picture
            self._pictures.move_to_end(digest)
            while len(self._pictures) > 1 and _pixels(self._pictures.values()) > MOST_PIXELS:
                self._pictures.popitem(last=False)
        return digest

    def model(self, name: str) -> Opened:
        """ValueError for a model that is not on the menu where it must be, and as `open_model`."""
        if not self.settings.free and name not in self.settings.models:
            raise ValueError(f"no model {name!r} here; expected one of {', '.join(self.settings.models)}")
        with self._work:
            if name not in self._models:
                self._models[name] = open_model(name, self.settings.device, self.settings.dtype)
                while len(self._models) > MOST_MODELS:
                    self._models.popitem(last=False)
            self._models.move_to_end(name)
            return self._models[name]

    def captured(self, source: Source, watch: Watch = QUIET) -> Captured:
        """The source's pass, made once as long as it is kept."""
        with self._books:
            if source in self._passes:
                self._passes.move_to_end(source)
                return self._passes[source]
            picture = self._pictures.get(source.picture)
        with self._working(watch):
            if source in self._passes:  # someone else waited for the same
                return self._passes[source]
            watch.told(0.0, f"opening {source.model}")
            made = run_pass(self.model(source.model), source, picture, self.settings.memory, watch)
        with self._books:
            self._passes[source] = made
            while self._too_many():
                self._passes.popitem(last=False)
        return made

    def is_ready(self, source: Source) -> bool:
        """Whether the source's pass is kept."""
        return source in self._passes

    def scene(self, state: State, watch: Watch = QUIET) -> Scene:
        """What the state shows; errors are the library's, and Cancelled by `watch`."""
        captured = self.captured(state.source, watch)
        if state.view == "walk":
            return chains.show_walk(captured, state)
        if state.view == "tokenrank":
            return chains.show_rank(captured, state)
        if state.view == "heads":
            return chains.show_heads(captured, state)
        return self._worked(captured, state, watch)

    def _worked(self, captured: Captured, state: State, watch: Watch) -> Scene:
        """Views that run the model anew are kept, too."""
        show, names = WORK[state.view]
        key = (state.source, state.view, *(getattr(state, name) for name in names))
        with self._books:
            if key in self._scenes:
                return self._scenes[key]
        with self._working(watch):
            made = show(captured, state, watch)
        with self._books:
            self._scenes[key] = made
            while len(self._scenes) > MOST_SCENES:
                self._scenes.popitem(last=False)
        return made

    @contextmanager
    def _working(self, watch: Watch) -> Iterator[None]:
        """The models are this thread's in the block; who waits for them can be cancelled."""
        while not self._work.acquire(timeout=0.1):
            watch.told(0.0, "waiting for another page's work")
            watch.check()
        try:
            watch.check()
            yield
        finally:
            self._work.release()

    def _too_many(self) -> bool:
        kept = sum(one.bytes for one in self._passes.values())
        return len(self._passes) > 1 and (
            kept > KEPT_PASSES * self.settings.memory or len(self._passes) > MOST_PASSES
        )


def _pixels(pictures: Iterable[Image.Image]) -> int:
    return sum(one.width * one.height for one in pictures)


WORK: dict[str, tuple[Any, tuple[str, ...]]] = {
    "segments": (segments.show_segments, ("anchors", "num_anchors", "threshold")),
    "words": (segments.show_words, ("words", "n", "heads")),
    "guidance": (guided.show_guidance, ("arms", "scale", "pag_scale")),
}
