"""Pictures in families that keep text apart from the image, or give it keys alone.

Their networks get what their own pipelines give them, and a caption's words are the columns that change with
them.
"""

from typing import Any

import pytest
import torch
from PIL import Image

from diffseg import DiffSeg
from diffseg.cross import TextAttention
from diffseg.passes.denoise import denoiser_pass
from diffseg.passes.sizes import pass_size
from diffseg.settings import Settings
from diffseg.words import word_tokens
from tests.diffseg.helpers import image
from tests.diffseg.test_twins import given
from tests.families.test_words import OPTIONAL, deaf, same
from tests.matrix.rows import ROWS
from tests.tiny_models import Call
from tokenrank_guidance import UnsupportedError
from tokenrank_guidance.components import denoiser_of, native_resolution
from tokenrank_guidance.families.packed import unpacked
from tokenrank_guidance.families.picture import PicturePass, opaque_frame, standardised
from tokenrank_guidance.families.registry import picture_of

PACKED = {"NucleusMoEImage": ((4, 6), 2), "QwenImage21": ((4, 6), 1)}  # their grid, latent pixels a side
SIZES = {"NucleusMoEImage": (16, 24), "PRXPixel": (16, 24), "QwenImage21": (64, 96), "Kandinsky3": (64, 128)}
TIMES = dict.fromkeys(("PRX", "PRXPixel", *PACKED), 1000.0) | {"Lumina": -1000.0}
READING = ("HunyuanDiT", "Lumina", "Kandinsky3")
NAMES = ("PRX", "PRXPixel", *PACKED, *READING)
SIDES = {
    "PRX": 512,  # its default_sample_size is in pixels
    "PRXPixel": 1024,
    "QwenImage21": 1024,
    "Kandinsky3": 1024,
}


def passed(name: str, pipe: Any, theirs: dict[str, Any], caption: str) -> dict[str, Any]:
    """Our inputs for the latents and at the time of the pipeline's."""
    own = next(iter(theirs.values()))[:1]
    latents = unpacked(own, *PACKED[name]) if name in PACKED else own
    scale, time = TIMES.get(name, 1.0), theirs["timestep"].flatten()[0].item()
    at = (1 - time) * -scale if scale < 0 else time * scale
    return dict(picture_of(pipe).inputs(PicturePass(pipe, latents, latents, at, caption)))


@pytest.mark.parametrize("caption", ["a red box", ""])
@pytest.mark.parametrize("name", NAMES)
def test_the_network_gets_what_its_pipeline_gives_it(name, caption):
    row, (height, width) = ROWS[name], SIZES.get(name, (32, 48))
    pipe = row.build()
    zeros = name == "Kandinsky3" and not caption  # the half of its calls without the prompt, the first
    wanted = row.arguments(Call(cfg=zeros)) | {"prompt": [caption], "height": height, "width": width}
    wanted |= {"negative_prompt": None} if zeros else {}
    theirs = given(pipe, wanted) if hasattr(pipe, "transformer") else given_to_unet(pipe, wanted)
    cached = {"kv_cache", "kv_cache_mode"}  # Qwen-Image 2.1's, of its first step: nothing is cached yet
    own = passed(name, pipe, theirs, caption)
    for key, value in own.items():
        same(value, theirs[key], key, 0 if zeros else -1)
    assert theirs.keys() - own.keys() <= OPTIONAL | cached


def given_to_unet(pipe: Any, wanted: dict[str, Any]) -> dict[str, Any]:
    pipe.transformer = pipe.unet
    try:
        return given(pipe, wanted)
    finally:
        del pipe.transformer


@pytest.mark.parametrize("name", NAMES)
def test_pictures_are_segmented(name):
    height, width = SIZES.get(name, (32, 48))
    pipe = ROWS[name].build()
    found = DiffSeg.from_pipe(pipe, num_anchors=4, resolution=round((height * width) ** 0.5))(
        image(height, width)
    )
    assert found.labels.shape == (height, width) and torch.isfinite(found.masks).all()


@pytest.mark.parametrize("name", [name for name in NAMES if name not in READING])
def test_a_caption_is_refused_where_no_word_has_a_row(name):
    with pytest.raises(UnsupportedError, match="its prompt has keys beside the image's and no row"):
        DiffSeg.from_pipe(ROWS[name].build(), num_anchors=4, resolution=64)(image(64, 64), "a red box")


@torch.no_grad()
@pytest.mark.parametrize("name", READING)
def test_a_words_columns_are_those_whose_keys_change_with_it(name):
    """Encoders whose attention gives nothing, so that of each token its own character alone counts."""
    pipe = deaf(ROWS[name].build())
    (own,) = word_tokens(pipe, "a red box", ["red"])
    one, other = (first_keys(name, pipe, caption) for caption in ("a red box", "a xyz box"))
    moved = (one - other).norm(dim=-1)
    assert sorted(moved.topk(len(own)).indices.tolist()) == sorted(own.tolist())
    assert len(own) == (6 if name == "HunyuanDiT" else 3)  # a token a character, in each encoder


class FirstKeys(TextAttention):
    """The keys of the first layer that sees text."""

    keys = None

    def add_cross(self, call: Any) -> None:
        if self.keys is None:
            self.keys = call.k[0].transpose(0, 1).flatten(1)


def first_keys(name: str, pipe: Any, caption: str) -> torch.Tensor:
    seen = FirstKeys()
    height, width = SIZES.get(name, (32, 48))
    with seen.watching(denoiser_of(pipe)):
        denoiser_pass(
            pipe, image(height, width), Settings(resolution=round((height * width) ** 0.5)), caption
        )
    assert seen.keys is not None
    return seen.keys


@pytest.mark.parametrize(("name", "side"), SIDES.items())
def test_pipelines_tell_the_size_that_they_draw_at(name, side):
    assert native_resolution(ROWS[name].build()) == side


def test_qwen_image_2_1_sees_an_opaque_picture_as_its_pipeline_shows_it_references():
    pipe = ROWS["QwenImage21"].build()
    bytes_ = (255 * image(64, 96)).byte()
    picture = Image.fromarray(bytes_.movedim(0, -1).numpy()).convert("RGBA")
    theirs = pipe._encode_vae_image(pipe.image_processor.preprocess(picture).unsqueeze(2), None)
    mode = pipe.vae.encode(opaque_frame(2 * (bytes_[None] / 255) - 1)).latent_dist.mode()
    torch.testing.assert_close(standardised(pipe.vae, mode), theirs.squeeze(2))
    assert pass_size(pipe, (64, 96), 100) == (96, 128)  # whole squares of 2×2 tokens
