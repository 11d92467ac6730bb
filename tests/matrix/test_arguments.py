"""Every argument of a batch of classifier-free guidance's parts has its rows, or is said to have none."""

from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from torch import Tensor

from tests.matrix.cells import Cell
from tests.matrix.check import seen
from tests.matrix.rows import ROWS, STEPS, run
from tests.tiny_models import Call
from tokenrank_guidance.components import denoiser_of
from tokenrank_guidance.families.registry import calling_of

SEVERAL = "two prompts, two images each"
BATCHED = [name for name in ROWS if Cell(name, SEVERAL).exists and not ROWS[name].refused]


def tensors(value: Any, place: str) -> Iterator[tuple[str, Tensor]]:
    if isinstance(value, Tensor) and value.ndim > 0:
        yield place, value
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from tensors(item, f"{place}[{key}]")
    elif isinstance(value, list | tuple):
        for i, item in enumerate(value):
            yield from tensors(item, f"{place}[{i}]")


@pytest.mark.matrix
@pytest.mark.parametrize("name", BATCHED)
def test_what_does_not_grow_with_the_batch_is_said_to_be_shared(name: str) -> None:
    row = ROWS[name]
    pipe = row.build()
    model = denoiser_of(pipe)
    calling, cfg = calling_of(model), Cell(name, "CFG, negative prompt").exists
    sizes = []
    for batch in (1, 2):
        with seen(model) as calls:
            run(pipe, row.arguments(Call(steps=STEPS, batch=batch, cfg=cfg)))
        inputs = calls[0].inputs
        told = {*calling.rows, *calling.shared}
        given = {key: value for key, value in inputs.items() if key not in told}
        found = {place: len(one) for key, value in given.items() for place, one in tensors(value, key)}
        sizes.append((len(calling.holding.read(inputs[calling.sample], inputs)), found))
    (rows, first), (doubled, second) = sizes
    kept = {place for place in first if first[place] > 1 and first[place] == second.get(place)}
    assert doubled == rows or not kept, f"{kept} are as many for two images as for one"
