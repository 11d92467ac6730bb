"""All heads of all layers and passes as one chain, and the ways to walk it, against the one dense matrix."""

import pytest
import torch

from diffseg.passes.images import read_images
from diffseg.zero_shot import Options, heat_maps, segment
from diffseg.zero_shot.heads import OneChain
from diffseg.zero_shot.options import make_options
from tests.diffseg.helpers import image
from tests.diffseg.zero_shot import oracle
from tests.diffseg.zero_shot.test_chains import BOX, CAPTION, DOG, LAYERS, close, tokens_of
from tests.tiny_models import pipeline
from tokenrank_guidance.errors import UnsupportedError

PASSES = {"timesteps": [200, 700], "draws": 2, "seed": 3, "resolution": 32, "lambda2_tol": 1e-9}


@pytest.fixture(scope="module", params=["flux", "sd3"])
def pipe(request):
    return request.param, pipeline(request.param)


@pytest.fixture(scope="module")
def records(pipe):
    name, built = pipe
    passes = [
        oracle.records_of(
            built, image(24, 48), CAPTION, LAYERS[name], timestep=timestep, seed=seed, resolution=32
        )
        for timestep in (200, 700)
        for seed in (3, 4)
    ]
    return [record for one in passes for record in one]


WAYS = [
    {"method": "bounce", "n": 3},
    {"method": "bounce", "direction": "incoming", "damping": 0.9},
    {"method": "column", "head_weights": "mean"},
    {"method": "keyed", "head_weights": "mean", "damping": 0.99},
    {"method": "keyed", "n": 1},
    {"method": "image-bounce"},
    {"method": "image-bounce", "n": 4, "head_weights": "mean", "damping": 0.9},
    {"method": "absorbing"},
    {"method": "absorbing", "survival": 1.0, "head_weights": "mean"},
]


def walks(built, ways, **options):
    """Every way from the same passes, as one would compare them."""
    pixels = read_images(image(24, 48))[0][0]
    asked = [make_options(PASSES | options | one) for one in ways]
    return heat_maps(built, pixels, ["box", "dog"], asked, CAPTION)


@pytest.mark.parametrize("memory", [0, pytest.param(64 * 2**20, marks=pytest.mark.slow)])
def test_walks_are_those_over_the_matrix_of_all(pipe, records, memory):
    name, built = pipe
    for changes, found in zip(WAYS, walks(built, WAYS, mix="chain", memory=memory), strict=True):
        assert found.steps.shape == (1, 2, 6, 11), "all passes are one chain"
        for heat, own in zip(found.heats, (BOX, DOG), strict=True):
            close(heat, oracle.one_walk(records, tokens_of(name, own), changes))


def test_layers_are_walked_each_and_averaged(pipe, records):
    name, built = pipe
    for changes, found in zip(WAYS, walks(built, WAYS, mix="layers"), strict=True):
        each = [oracle.one_walk([record], tokens_of(name, BOX), changes) for record in records]
        close(found.heats[0], sum(each) / len(each))


def test_heads_that_walk_alone_are_averaged_after_it(pipe, records):
    name, built = pipe
    options = {"method": "image-bounce", "head_weights": "mean"}
    found = segment(built, image(24, 48), ["dog"], CAPTION, mix="heads", **PASSES, **options)
    each = [
        oracle.one_walk([part], tokens_of(name, DOG), options)
        for record in records
        for part in oracle.single_heads(record)
    ]
    close(found.heats[0], sum(each) / len(each))


def test_layers_over_other_tokens_are_no_one_chain(records):
    chain = OneChain([Options(mix="chain")])
    chain.add(records[0])
    with pytest.raises(UnsupportedError, match="no one chain: mix='layers' walks over each"):
        chain.add(records[0].restrict("image"))


def test_a_unet_has_no_one_chain():
    with pytest.raises(UnsupportedError, match="layers of a UNet have different tokens"):
        segment(pipeline("sd"), image(32, 32), ["dog"], CAPTION, mix="chain", draws=1, resolution=32)


def test_old_names_of_mixing_work_with_a_warning():
    for before, now in (("before", "layers"), ("after", "heads")):
        with pytest.warns(DeprecationWarning, match=f"mix='{before}' is now called '{now}'"):
            assert Options(mix=before).mix == now


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"damping": 0.0}, r"damping: got 0.0"),
        ({"survival": 2}, "survival: got 2"),
        ({"mix": "all"}, "mix: got"),
    ],
)
def test_numbers_that_are_no_chance_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        Options(**changes)


def test_what_a_structureless_head_weighs(records):
    """λ2 of rows that are all alike is 0; where all are, they count alike."""
    flat = [
        type(record)(
            torch.zeros_like(record.q), record.k, 1.0, grid=record.grid, image=record.image, text=record.text
        )
        for record in records[:2]
    ]
    chain = OneChain([Options(mix="chain")])
    for record in flat:
        chain.add(record)
    torch.testing.assert_close(
        chain.chain(Options(mix="chain")).to_dense()[0],
        torch.full((flat[0].tokens, flat[0].tokens), 1 / flat[0].tokens),
    )
