"""Every method on joint attention against a plain dense computation."""

import pytest
import torch

from diffseg.zero_shot import segment
from tests.capture.helpers import hook_counts
from tests.diffseg.helpers import image
from tests.diffseg.zero_shot import oracle
from tests.tiny_models import denoiser, pipeline

CAPTION = "a red box, a big dog, a box"
BOX, DOG = [7, 8, 9, 25, 26, 27], [18, 19, 20]  # one token a character, and <s>
T5 = 77
ONE = {"draws": 1, "resolution": 32, "lambda2_tol": 1e-9}
LAYERS = {
    "flux": ("transformer_blocks.1.attn", "single_transformer_blocks.1.attn"),
    "sd3": ("transformer_blocks.1.attn", "transformer_blocks.2.attn"),
}


def tokens_of(name, own):
    return own if name == "flux" else [*own, *(T5 + token for token in own)]


@pytest.fixture(scope="module", params=["flux", "sd3"])
def pipe(request):
    return request.param, pipeline(request.param)


@pytest.fixture(scope="module")
def records(pipe):
    name, built = pipe
    return oracle.records_of(built, image(24, 48), CAPTION, LAYERS[name], resolution=32)


def close(found, expected):
    assert found.shape == expected.shape
    torch.testing.assert_close(found.double(), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    "changes",
    [
        {"method": "bounce", "n": 1},
        {"method": "bounce", "n": 3, "head_weights": "mean"},
        {"method": "bounce", "n": 2, "direction": "incoming"},
        {"method": "bounce", "n": 2, "mix": "heads"},
        {"method": "bounce", "n": 2, "memory": 0},
        {"method": "row", "head_weights": "mean"},
        {"method": "column", "head_weights": "mean"},
        {"method": "column", "mix": "heads"},
    ],
    ids=str,
)
def test_walks_are_the_dense_ones(pipe, records, changes):
    name, built = pipe
    found = segment(built, image(24, 48), ["box", "big dog"], CAPTION, **ONE, **changes)
    assert found.heats.shape == (2, 6, 11)
    method = changes["method"]
    n = changes.get("n", 2) if method == "bounce" else 1
    direction = {"row": "outgoing", "column": "incoming"}.get(method, changes.get("direction", "outgoing"))
    kind, mix = changes.get("head_weights", "lambda2"), changes.get("mix", "layers")
    for heat, own in zip(found.heats, (BOX, [14, 15, 16, 17, *DOG]), strict=True):
        layers = [oracle.walk(one, tokens_of(name, own), n, direction, kind, mix) for one in records]
        close(heat, sum(layers) / len(layers))


@pytest.mark.parametrize("mix", ["layers", "heads"])
@pytest.mark.parametrize("kind", ["mean", "lambda2"])
def test_tokenrank_is_the_limit_of_the_damped_walk(pipe, records, kind, mix):
    _, built = pipe
    changes = {"method": "tokenrank", "head_weights": kind, "mix": mix}
    found = segment(built, image(24, 48), ["box", "dog"], CAPTION, **ONE, **changes)
    ends = [oracle.limit(one, kind, mix) for one in records]
    for heat in found.heats:
        close(heat, sum(ends) / len(ends))


def test_rollout_is_the_row_of_the_product(pipe):
    name, built = pipe
    everything = [
        layer for layer in names_of(built) if not layer.endswith("attn2")
    ]  # SD3.5's second attention has no text
    records = oracle.records_of(built, image(24, 48), CAPTION, everything, resolution=32)
    found = segment(built, image(24, 48), ["dog"], CAPTION, method="rollout", head_weights="mean", **ONE)
    close(found.heats[0], oracle.rollout(records, tokens_of(name, DOG), "mean"))


def names_of(pipe):
    return [name for name, one in denoiser(pipe).named_modules() if hasattr(one, "set_processor")]


def test_draws_and_timesteps_are_averaged(pipe):
    name, built = pipe
    changes = {"timesteps": [200, 700], "draws": 2, "seed": 3, "resolution": 32, "head_weights": "mean"}
    found = segment(built, image(32, 32), ["dog"], CAPTION, method="bounce", **changes)
    for heat, timestep in zip(found.steps, (200, 700), strict=True):
        passes = [
            oracle.records_of(
                built, image(32, 32), CAPTION, LAYERS[name], timestep=timestep, seed=seed, resolution=32
            )
            for seed in (3, 4)
        ]
        ends = [
            oracle.walk(r, tokens_of(name, DOG), 2, "outgoing", "mean", "layers") for p in passes for r in p
        ]
        close(heat[0], sum(ends) / 4)
    torch.testing.assert_close(found.heats, found.steps.mean(0))


def test_a_batch_of_different_sizes_is_the_images_one_by_one(pipe):
    _, built = pipe
    before = hook_counts(denoiser(built))
    pictures, captions = [image(20, 40), image(32, 32, 1)], ["a dog", "two dogs and a dog"]
    together = segment(built, pictures, ["dog"], captions, **ONE)
    for picture, caption, found in zip(pictures, captions, together, strict=True):
        alone = segment(built, picture, ["dog"], caption, **ONE)
        assert torch.equal(found.heats, alone.heats)
        assert found.size == tuple(picture.shape[1:]) and found.masks.shape == (1, *found.size)
    assert hook_counts(denoiser(built)) == before


def test_layers_can_be_chosen(pipe):
    name, built = pipe
    one = segment(built, image(32, 32), ["dog"], CAPTION, layers=LAYERS[name][:1], method="bounce", **ONE)
    record = oracle.records_of(built, image(32, 32), CAPTION, LAYERS[name][:1], resolution=32)[0]
    close(one.heats[0], oracle.walk(record, tokens_of(name, DOG), 2, "outgoing", "lambda2", "layers"))


def test_no_map_is_built_without_memory(monkeypatch):
    from tokenrank_guidance.markov.chunked import ChunkedProducts

    def refuse(*_):
        raise AssertionError("a map was built")

    built = pipeline("flux")
    monkeypatch.setattr(ChunkedProducts, "matrix", refuse)
    monkeypatch.setattr(ChunkedProducts, "mixed", refuse)
    found = segment(built, image(32, 32), ["dog"], CAPTION, memory=0, **ONE)
    assert torch.isfinite(found.heats).all()
    with pytest.raises(AssertionError, match="a map was built"):
        segment(built, image(32, 32), ["dog"], CAPTION, **ONE)


def test_half_precision():
    built = pipeline("flux", dtype=torch.bfloat16)
    found = segment(built, image(32, 32), ["dog"], CAPTION, draws=1, resolution=32)
    assert found.heats.dtype == torch.float32 and torch.isfinite(found.heats).all()
