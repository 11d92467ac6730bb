"""Peak memory of walks over a layer of FLUX's length, in a process of its own."""

import pytest

from tests.markov.test_memory import peak_mib

IMPORTS = """
from dataclasses import replace
from diffseg.zero_shot.chain import Walks, starts_at
from diffseg.zero_shot.heads import LayerChains
from diffseg.zero_shot.options import Options
from tokenrank_guidance.capture import AttentionRecord
from tokenrank_guidance.memory import HELD_BYTES
"""
SETUP = """
def record(tokens):
    q, k = inputs(1, 2, 512 + tokens, 64)
    return AttentionRecord(q, k, 0.125, grid=(1, tokens), image=slice(512, None), text=slice(0, 512))

def work(one, memory=HELD_BYTES):
    starts = starts_at([torch.tensor([5]), torch.tensor([7, 8])], one.text, one.q, one.tokens)
    walks = Walks(LayerChains(one, Options(memory=memory)), starts, one.image)
    return [walks.ends(Options(head_weights="mean", n=n)) for n in (1, 2)]

work(record(64))
layer = record(4096)
"""


@pytest.mark.extended
@pytest.mark.parametrize(("memory", "most"), [("HELD_BYTES", 128), ("64 * 2**20", 64)])
def test_4608_tokens_whose_maps_would_be_162_mib(memory, most):
    """Two heads at 1024 px, two words, two bounces: their mixture of 81 MiB, or with less memory no map."""
    assert peak_mib(IMPORTS, SETUP, f"work(layer, {memory})") <= most
