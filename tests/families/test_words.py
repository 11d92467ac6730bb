"""Captions in every family whose text and image share a map: where a word's tokens are, and that they are it.

The oracle: encoders whose attention gives nothing, so that of each token its own character alone counts.
"""

import inspect
from collections.abc import Callable
from typing import Any, NamedTuple

import diffusers as d
import pytest
import torch
from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution
from torch import Tensor, nn

from diffseg.passes.denoise import denoiser_pass
from diffseg.passes.sizes import pass_size, size_multiple
from diffseg.settings import Settings
from diffseg.words import word_tokens
from diffseg.zero_shot import Generate, segment
from sag.call import Given
from tests.diffseg.helpers import image
from tests.tiny_readers import READERS, Reader
from tokenrank_guidance import UnsupportedError
from tokenrank_guidance.capture import AttentionRecord, capture
from tokenrank_guidance.components import denoiser_of
from tokenrank_guidance.families.packed import packed, unpacked
from tokenrank_guidance.families.picture import PicturePass
from tokenrank_guidance.families.registry import picture_of

CAPTION, OTHER = "a red box", "a xyz box"
ENDS = (
    ".o_proj",
    ".o",
    ".out_proj",
    ".attention.output.dense",
)  # what text encoders call the end of an attention layer
OPTIONAL = {"return_dict", "joint_attention_kwargs", "attention_kwargs", "controlnet_block_samples"}
Read = tuple[Reader, Any]


@pytest.fixture(scope="module", params=READERS)
def read(request) -> Read:
    """A row of the table, and its pipeline."""
    row = READERS[request.param]
    return row, row.build()


def deaf(pipe: Any) -> Any:
    """No token of its text encoders hears of another."""
    for name, part in pipe.components.items():
        if name.startswith("text_encoder"):
            ends = [module for at, module in part.named_modules() if at.endswith(ENDS)]
            assert ends
            for weights in (one for end in ends for one in end.parameters()):
                nn.init.zeros_(weights)
    return pipe


def first_call(pipe: Any, row: Reader, **more: Any) -> dict[str, Any]:
    """What the pipeline gives its denoiser first."""
    calls = []

    def keep(module: Any, args: tuple, kwargs: dict[str, Any]) -> None:
        calls.append(Given.take(args, kwargs).named(module))

    height, width = row.size
    options = {"height": height, "width": width, "num_inference_steps": 1, "output_type": "latent"}
    with denoiser_of(pipe).register_forward_pre_hook(keep, with_kwargs=True):
        pipe(**options | row.extra | more)
    return calls[0]


def keys(pipe: Any, row: Reader, caption: str) -> tuple[Tensor, AttentionRecord]:
    """The keys of all tokens in the first joint layer, and their record."""
    resolution = round((row.size[0] * row.size[1]) ** 0.5)
    with capture(denoiser_of(pipe), row.first) as records:
        denoiser_pass(pipe, image(*row.size), Settings(resolution=resolution), caption)
    [record] = records
    assert record.plane == row.grid and record.text is not None
    return record.k[0].transpose(0, 1).flatten(1), record


def same(own: Any, theirs: Any, name: str, half: int) -> None:
    """Lists too; of theirs the row `half` where both halves of classifier-free guidance are in it."""
    if isinstance(own, list | tuple):
        assert len(own) == len(theirs)
        for mine, other in zip(own, theirs, strict=True):
            same(mine, other, name, half)
    elif isinstance(own, Tensor):
        alone = theirs.numel() == own.numel() or theirs.shape[:1] == own.shape[:1]
        whole = theirs if alone else theirs[half:][:1]
        whole = whole.reshape(own.shape) if whole.numel() == own.numel() else whole
        torch.testing.assert_close(own, whole, check_dtype=False, rtol=1e-4, atol=1e-5, msg=name)
    else:
        assert own == theirs, name


@torch.no_grad()
def test_the_network_gets_what_its_pipeline_gives_it(read):
    row, pipe = read
    theirs = first_call(pipe, row, prompt=CAPTION)
    given = next(iter(theirs.values()))
    sample = given[0].transpose(0, 1) if isinstance(given, list) else given[:1]
    latents = sample if row.side is None else unpacked(sample, row.grid, row.side)
    time = next(theirs[name] for name in ("timestep", "timesteps", "t") if name in theirs)
    own = picture_of(pipe).inputs(
        PicturePass(pipe, latents, latents, row.time(time.flatten()[0].item()), CAPTION)
    )
    guidance = {"guidance"} if theirs.get("guidance") is not None else set()  # ours is 1
    for name, value in own.items():
        if name not in guidance:
            same(value, theirs[name], name, -1)
    assert theirs.keys() - own.keys() <= OPTIONAL


@torch.no_grad()
def test_squares_of_latents_are_packed_as_its_pipeline_packs_them(read):
    (row, pipe), latents = read, torch.randn(1, 4, 12, 20)
    pack = getattr(pipe, "_pack_latents_no_patch" if row.side == 1 else "_pack_latents", None)
    assert (pack is None) == (row.side is None)
    if pack is None or row.side is None:
        return
    whole = hasattr(pipe, "_patchify_latents")
    theirs = pack(pipe._patchify_latents(latents)) if whole else pack(latents, *latents.shape)
    assert torch.equal(packed(latents, row.side), theirs)


@torch.no_grad()
def test_a_words_tokens_are_those_whose_keys_change_with_it(read):
    """Most: a text that is refined before, and one that is pooled beside, let the others change too."""
    row, pipe = read
    deaf(pipe)
    (own,) = word_tokens(pipe, CAPTION, ["red"])
    one, record = keys(pipe, row, CAPTION)
    other, _ = keys(pipe, row, OTHER)
    changed = (one - other).norm(dim=-1)
    expected = sorted(record.text.start + own)
    assert sorted(changed.topk(len(own)).indices) == expected


def assert_read_under_its_prompt(row: Reader, pipe: Any) -> None:
    """The first step's latents are the same with classifier-free guidance as without."""
    height, width = row.size
    taken = inspect.signature(pipe.__call__).parameters
    negative = "blurry" if "negative_prompt" in taken else None
    with_guidance, without = (
        segment(
            pipe,
            Generate(CAPTION, 1, cfg=scale, negative_prompt=other, height=height, width=width),
            ["red"],
        ).heats
        for scale, other in ((3.0, negative), (row.scale, None))
    )
    assert with_guidance.shape == (1, *row.grid)
    torch.testing.assert_close(with_guidance, without, rtol=1e-4, atol=1e-5)


def test_a_drawing_with_the_prompts_half_first_is_read_under_it():
    row = READERS["Z-Image"]
    assert_read_under_its_prompt(row, row.build())


@pytest.mark.matrix
def test_every_drawing_is_read_under_its_prompt(read):
    if read[0].scale is not None:
        assert_read_under_its_prompt(*read)


@pytest.mark.matrix
def test_concept_attention_is_not_defined_for_them(read):
    with pytest.raises(UnsupportedError, match=f"needs FLUX or SD3, got {type(read[1]).__name__}"):
        segment(read[1], image(8, 8), ["red"], method="concept-attention")


@torch.no_grad()
def test_words_after_quoted_text_stand_behind_its_letters():
    """HunyuanImage has tokens of ByT5 for what is quoted, before all others."""
    row = READERS["HunyuanImage 2.1"]
    pipe = deaf(row.build())
    plain, quoted = (word_tokens(pipe, caption, ["red"])[0] for caption in ("a box red", 'a "box" red'))
    assert (quoted - plain).tolist() == [2 + len('<Text "box". >')] * 3
    one, record = keys(pipe, row, 'a "box" red')
    other, _ = keys(pipe, row, 'a "box" xyz')
    assert sorted((one - other).norm(dim=-1).topk(3).indices) == sorted(record.text.start + quoted)


def test_what_longcat_spells_is_refused():
    pipe = READERS["LongCat-Image"].build()
    with pytest.raises(
        ValueError, match='LongCat-Image reads "red" letter by letter, so words are not found'
    ):
        word_tokens(pipe, 'a "red" box', ["box"])
    assert len(word_tokens(pipe, "a dog's red box", ["red"])[0]) == 3


@torch.no_grad()
def test_without_a_caption_lumina_gets_no_instructions():
    row = READERS["Lumina 2"]
    pipe = row.build()
    latents = torch.zeros(1, 4, 12, 20)
    given = picture_of(pipe).inputs(PicturePass(pipe, latents, latents, 500))
    *_, text, mask = pipe.encode_prompt(CAPTION)
    torch.testing.assert_close(given["encoder_hidden_states"], text)
    assert torch.equal(given["encoder_attention_mask"], mask)


class Encoded(NamedTuple):
    """A pipeline with an autoencoder of its own statistics, and a method that encodes a picture as theirs."""

    pipe: Any
    theirs: Callable[[Tensor], Tensor]


def flux2_encoded() -> Encoded:
    pipe = READERS["FLUX.2"].build()
    pipe.vae.bn.running_mean.normal_()
    pipe.vae.bn.running_var.uniform_(0.5, 2)
    return Encoded(pipe, lambda pixels: pipe._pack_latents(pipe._encode_vae_image(pixels, None)))


def qwen_encoded() -> Encoded:
    pipe = READERS["Qwen-Image"].build()
    pipe.vae.register_to_config(latents_mean=[0.1, -0.2, 0.3, 0.4], latents_std=[0.5, 1.0, 2.0, 3.0])
    other = d.QwenImageImg2ImgPipeline(**pipe.components)

    def theirs(pixels: Tensor) -> Tensor:
        latents = other._encode_vae_image(pixels.unsqueeze(2), None)
        return pipe._pack_latents(latents, 1, 4, 12, 20)

    return Encoded(pipe, theirs)


@torch.no_grad()
@pytest.mark.parametrize("build", [flux2_encoded, qwen_encoded])
def test_a_picture_is_encoded_as_its_pipeline_does_it(build, monkeypatch):
    monkeypatch.setattr(DiagonalGaussianDistribution, "sample", lambda self, generator=None: self.mode())
    pipe, theirs = build()
    seen, picture = [], image(24, 40)
    with denoiser_of(pipe).register_forward_pre_hook(
        lambda module, args, given: seen.append(given["hidden_states"]), with_kwargs=True
    ):
        denoiser_pass(pipe, picture, Settings(resolution=31))
    torch.testing.assert_close(seen[0], theirs(2 * picture[None] - 1), rtol=1e-4, atol=1e-4)


@pytest.mark.matrix
@pytest.mark.parametrize("size", [(37, 53), (31, 31), (20, 90), (64, 16)])
def test_words_are_found_in_pictures_of_any_size(read, size):
    row, pipe = read
    resolution = round((row.size[0] * row.size[1]) ** 0.5)
    found = segment(pipe, image(*size), ["red", "box"], CAPTION, draws=1, resolution=resolution)
    height, width = pass_size(pipe, size, resolution)
    assert found.heats.shape[1:] == (height // size_multiple(pipe), width // size_multiple(pipe))
    assert found.masks.shape == (2, *size) and torch.isfinite(found.heats).all()
    assert (found.heats > 0).any() and not torch.equal(*found.heats)


def test_hidream_is_given_no_more_tokens_than_it_takes():
    pipe = READERS["HiDream"].build()
    most = denoiser_of(pipe).max_seq
    for size in ((24, 40), (29, 32), (33, 31), (16, 64)):
        height, width = pass_size(pipe, size, None)
        assert height * width <= most * 16 and height % 4 == width % 4 == 0
    with pytest.raises(ValueError, match="got 40, expected at most 32: HiDreamImagePipeline sees 64"):
        pass_size(pipe, (8, 8), 40)
