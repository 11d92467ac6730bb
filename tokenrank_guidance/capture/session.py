"""The context manager that captures a model's attention."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, overload

from torch import nn

from tokenrank_guidance.capture.layers import Layers
from tokenrank_guidance.capture.record import AttentionRecord
from tokenrank_guidance.capture.tap import AttentionTap


class Capture(Sequence[Any]):
    """What a capture holds, in the order of the calls: attention records, or what `reduce` made of them.

    Live while the model runs and readable afterwards. Taking an item while there is none raises CaptureError.
    """

    def __init__(self, tap: AttentionTap) -> None:
        self._tap = tap

    @property
    def layers(self) -> tuple[str, ...]:
        """Names of the captured modules."""
        return self._tap.layers

    def __len__(self) -> int:
        return len(self._tap.records)

    @overload
    def __getitem__(self, index: int) -> Any: ...
    @overload
    def __getitem__(self, index: slice) -> list[Any]: ...
    def __getitem__(self, index):
        records = self._tap.records
        if not records:
            self._tap.check()
        return records[index]

    def __repr__(self) -> str:
        return f"Capture({self._tap.records!r})"


@contextmanager
def capture(
    model: nn.Module,
    layers: Layers = "auto",
    *,
    keep: int | None = 1,
    reduce: Callable[[AttentionRecord], Any] | None = None,
    detach: bool = True,
) -> Iterator[Capture]:
    """Record the self-attention of `model` while the block runs, without changing a bit of its output.

    `layers`: "auto", "all", an exact module name, an index, or a sequence of these (see `choose_layers`).
    `keep`: records kept per layer, by default those of the last call; None keeps every call's.
    `reduce`: turns each record into what is kept, such as a score, so that no queries and keys stay.
    `detach`: False keeps queries and keys in the autograd graph.
    Raises ValueError for layers that do not exist, UnsupportedError for an unknown model, and CaptureError at
    the end of the block if a layer ran unseen or nothing was captured. However it ends, no hook stays.
    """
    tap = AttentionTap(model, layers, keep=keep, reduce=reduce, detach=detach)
    try:
        tap.attach()
        yield Capture(tap)
    finally:
        tap.detach()
    tap.check()
