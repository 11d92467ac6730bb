"""Pictures and captions in the families after FLUX: their networks get what their own pipelines give them."""

from typing import Any

import pytest
import torch

from diffseg import DiffSeg
from diffseg.cross import TextAttention
from diffseg.zero_shot import segment
from sag.call import Given
from tests.diffseg.helpers import image
from tests.diffseg.zero_shot import oracle
from tests.matrix.building import run
from tests.matrix.twins import TWIN_ROWS
from tests.tiny_models import Call
from tokenrank_guidance.families.packed import unpacked
from tokenrank_guidance.families.picture import PicturePass
from tokenrank_guidance.families.registry import picture_of, words_of

PACKED = ("Chroma", "Bria")
NAMES = (*PACKED, "CogView3Plus")
PROMPT = "a red box"


def given(pipe: Any, arguments: dict[str, Any]) -> dict[str, Any]:
    """What the pipeline gives its network in the first call."""
    calls = []

    def keep(module: Any, args: tuple, kwargs: dict[str, Any]) -> None:
        calls.append(Given.take(args, kwargs).named(module))

    with pipe.transformer.register_forward_pre_hook(keep, with_kwargs=True):
        run(pipe, arguments)
    return calls[0]


@pytest.mark.parametrize("caption", [PROMPT, ""])
@pytest.mark.parametrize("name", NAMES)
def test_the_network_gets_what_its_pipeline_gives_it(name, caption):
    row = TWIN_ROWS[name]
    pipe = row.build()
    wanted = row.arguments(Call(cfg=False)) | {"prompt": [caption or PROMPT], "height": 32, "width": 48}
    wanted["max_sequence_length"] = words_of(pipe).longest(pipe)
    empty = not caption and name != "Chroma"  # whose empty prompt is a prompt
    if not caption:
        wanted |= {"guidance_scale": 3.0} if empty else {"prompt": [""]}
    theirs = given(pipe, wanted)
    half = slice(0, 1)  # the one without the prompt comes first
    latents = theirs["hidden_states"][half]
    latents = unpacked(latents, (8, 12)) if name in PACKED else latents
    time = theirs["timestep"].flatten()[0].item() * (1000 if name == "Chroma" else 1)
    own = picture_of(pipe).inputs(PicturePass(pipe, latents, latents, time, caption))
    for key, value in own.items():
        whole = theirs[key]
        expected = whole[half] if whole.shape[0] == 2 * value.shape[0] else whole
        torch.testing.assert_close(
            value,
            expected,
            check_dtype=False,
            rtol=1e-4,
            atol=1e-5,
            msg=lambda text, key=key: f"{key}: {text}",
        )
    optional = {"return_dict", "joint_attention_kwargs", "attention_kwargs"}
    assert theirs.keys() - own.keys() <= optional


@pytest.mark.parametrize("name", NAMES)
def test_pictures_are_segmented_and_segments_named(name):
    segmenter = DiffSeg.from_pipe(TWIN_ROWS[name].build(), num_anchors=4, resolution=32)
    result = segmenter(image(32, 32), PROMPT)
    assert result.labels.shape == (32, 32)
    assert result.names is not None


CAPTION = "a red box, a big dog, a box"
BOX = [7, 8, 9, 25, 26, 27]  # one token a character, and <s>
LAYERS = {"CogView3Plus": ("transformer_blocks.1.attn1",)}


@pytest.mark.parametrize("name", NAMES)
def test_walks_from_words_are_the_dense_ones(name, monkeypatch):
    pipe = TWIN_ROWS[name].build()
    layers = LAYERS.get(name, ("transformer_blocks.1.attn",))
    records = oracle.records_of(pipe, image(24, 48), CAPTION, layers, resolution=32)
    monkeypatch.setattr(
        oracle, "dense_maps", lambda record: record.maps()[-1].double()
    )  # Chroma's has a mask
    options = {
        "method": "bounce",
        "n": 2,
        "draws": 1,
        "resolution": 32,
        "lambda2_tol": 1e-9,
        "layers": layers,
    }
    found = segment(pipe, image(24, 48), ["box"], CAPTION, **options)
    wanted = oracle.walk(records[0], BOX, 2, "outgoing", "lambda2", "layers")
    torch.testing.assert_close(found.heats[0].double(), wanted, rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_text_columns_are_those_of_the_image_tokens_rows(name):
    """Chroma's mask has a row for each token, text first."""
    pipe = TWIN_ROWS[name].build()
    layers = LAYERS.get(name, ("transformer_blocks.1.attn",))
    [record] = oracle.records_of(pipe, image(32, 32), CAPTION, layers, resolution=32)
    attention = TextAttention()
    attention.add_joint(record)
    wanted = record.maps().mean(1)[0, record.image][:, record.text]
    [found] = attention.maps({64: (8, 8)}).values()
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-6)
