"""Words of what is read while it is drawn: where they are in the text, where walks end, by dense maps."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import CLIPTextModel

from diffseg.words import word_tokens
from diffseg.zero_shot import Generate, WordSegmentation, segment
from diffseg.zero_shot.collect import LayerMean
from diffseg.zero_shot.layers import chain_layers
from diffseg.zero_shot.options import Options
from diffseg.zero_shot.result import enlarged
from tests.diffseg.helpers import image
from tests.diffseg.zero_shot import oracle
from tests.families.test_words import deaf
from tests.matrix.building import seeded
from tests.matrix.rows import ROWS
from tests.tiny_drawn_readers import DRAWN_READERS, DrawnReader
from tests.tiny_networks import clip, tokenizer
from tokenrank_guidance import UnsupportedError
from tokenrank_guidance.capture import AttentionRecord, capture
from tokenrank_guidance.components import denoiser_of
from tokenrank_guidance.families.registry import prompt_row, words_of

CAPTION, OTHER = "a red box", "a xyz box"
pytestmark = pytest.mark.filterwarnings("ignore:In CPU autocast")  # Mochi's
Read = tuple[DrawnReader, Any]


MARKS = {name: [] if name == "CogVideoX" else [pytest.mark.matrix] for name in DRAWN_READERS}
PARAMS = [pytest.param(name, marks=marks) for name, marks in MARKS.items()]


@pytest.fixture(scope="module", params=PARAMS)
def read(request) -> Read:
    """A row of the table, and its pipeline."""
    row = DRAWN_READERS[request.param]
    return row, row.build()


def of(row: DrawnReader, **more: Any) -> Generate:
    height, width = row.size or (None, None)
    more = {"steps": row.least} | more
    return Generate(CAPTION, height=height, width=width, frames=row.frames, given=row.given, **more)


def drawn(read: Read, layer: str, caption: str, steps: int) -> list[AttentionRecord]:
    """The layer's records under the prompt, while the pipeline itself draws."""
    row, pipe = read
    size = dict(zip(("height", "width"), row.size or (), strict=False)) | {"num_inference_steps": steps}
    size |= {"num_frames": row.frames} if row.frames else {}
    with capture(denoiser_of(pipe), layer, keep=None) as records:
        pipe(prompt=[caption], generator=[torch.Generator().manual_seed(0)], **size, **row.extra, **row.given)
    return [record.select(prompt_row(pipe)) for record in records[:: len(records) // steps]]


def keys(read: Read, caption: str) -> tuple[Tensor, AttentionRecord]:
    """The keys of all tokens in the first joint layer, and their record."""
    record = drawn(read, read[0].first, caption, read[0].least)[0]
    assert record.grid == read[0].grid and record.text is not None
    return record.k[0].transpose(0, 1).flatten(1), record


def apart(pipe: Any) -> Any:
    """No token of a text hears of another before it meets the video: neither in HunyuanVideo's refiner of
    texts, nor by the vector that CLIP makes of all."""
    refined = {name: one for name, one in denoiser_of(pipe).named_modules() if "token_refiner" in name}
    ends = [module for name, module in refined.items() if name.endswith("attn.to_out.0")]
    pooled = getattr(pipe, "text_encoder_2", None)
    if isinstance(pooled, CLIPTextModel):
        ends += [module for name, module in pooled.named_modules() if name.endswith("final_layer_norm")]
    for weights in (one for end in ends for one in end.parameters()):
        nn.init.zeros_(weights)
    return deaf(pipe)


@torch.no_grad()
def test_a_words_tokens_are_those_whose_keys_change_with_it(read):
    row, _ = read
    pipe = apart(row.build())
    (own,) = word_tokens(pipe, CAPTION, ["red"])
    one, record = keys((row, pipe), CAPTION)
    other, _ = keys((row, pipe), OTHER)
    changed = (one - other).norm(dim=-1)
    assert sorted(changed.topk(len(own)).indices) == sorted(record.text.start + own)


def attending(record: AttentionRecord) -> AttentionRecord:
    """Without HunyuanVideo 1.5's padding, which may attend to nothing and is last."""
    if record.mask is None or record.mask.shape[-2] == 1 or record.mask.dtype != torch.bool:
        return record
    n = int(record.mask[0, 0, 0].sum())
    mask = record.mask[..., :n, :n]
    assert mask.all() and not record.mask[..., n:, :].any()
    return replace(record, q=record.q[:, :, :n], k=record.k[:, :, :n], mask=None)


def softmax(record: AttentionRecord) -> Tensor:
    """Of one row, (heads, n, n), in float64; keys that are masked get nothing."""
    logits = record.q[0].double() @ record.k[0].double().mT * record.scale
    if record.mask is None:
        return logits.softmax(-1)
    mask = record.mask[0]
    hidden = ~mask if mask.dtype == torch.bool else mask < 0
    return logits.masked_fill(hidden, -torch.inf).softmax(-1)


@torch.no_grad()
@pytest.mark.parametrize("method", ["image-bounce", "bounce", "column"])
def test_walks_are_the_dense_ones_at_each_step(read, method, monkeypatch):
    monkeypatch.setattr(oracle, "dense_maps", softmax)
    row, pipe = read
    layer = chain_layers(pipe, Options())[-1]
    if method == "bounce" and not words_of(pipe).sees_image:
        with pytest.raises(UnsupportedError, match="attends to none of the image"):
            segment(pipe, of(row), ["red"], method=method)
        (own,), record = word_tokens(pipe, CAPTION, ["red"]), drawn(read, layer, CAPTION, steps=1)[0]
        assert not softmax(record)[:, record.text.start + own][..., record.image].any()
        return
    options = {"method": method, "layers": layer, "lambda2_tol": 1e-9}
    found = segment(pipe, of(row, steps=2), ["red"], **options)
    (own,) = word_tokens(pipe, CAPTION, ["red"])
    records = drawn(read, layer, CAPTION, steps=2)
    assert found.steps.shape == (2, 1, *row.grid)
    for heat, record in zip(found.steps, records, strict=True):
        expected = oracle.one_walk([attending(record)], own.tolist(), {"method": method})
        torch.testing.assert_close(heat[0].double(), expected, rtol=0, atol=1e-6)


def test_a_drawing_is_read_under_its_prompt(read):
    """The first step's latents are the same with classifier-free guidance as without."""
    row, pipe = read
    if not row.scales:
        return
    heats = [segment(pipe, of(row, **cfg), ["red"]).steps[0] for cfg in row.scales]
    torch.testing.assert_close(*heats, rtol=1e-4, atol=1e-6)


def test_maps_have_the_size_of_what_is_drawn(read):
    row, pipe = read
    found = segment(pipe, of(row), ["red", "box"])
    size = (row.frames, *row.size) if row.frames and row.size else row.size or found.size
    assert found.size == size and len(found.frames) == (row.frames or 0)
    assert (found.image is None) == (row.frames is not None)
    assert found.heats.shape == (2, *row.grid)
    assert found.heat_maps.shape == found.masks.shape == (2, *size) and found.labels.shape == size
    assert torch.isfinite(found.heats).all() and not torch.equal(*found.heats)


@pytest.mark.matrix
def test_what_starts_from_a_picture_is_given_it():
    pipe = DRAWN_READERS["CogVideoX, from a picture"].build()
    with pytest.raises(UnsupportedError, match="it takes image; name it in Generate's given"):
        segment(pipe, Generate(CAPTION), ["red"])
    with pytest.raises(UnsupportedError, match="CogVideoXImageToVideoPipeline does not take control_video"):
        segment(pipe, Generate(CAPTION, given={"control_video": []}), ["red"])
    with pytest.raises(
        ValueError, match=r"given: got \{'prompt': 'a'\}, expected pictures or videos by name"
    ):
        Generate(CAPTION, given={"prompt": "a"})


@pytest.mark.matrix
@pytest.mark.parametrize("name", ["HunyuanVideoImageToVideo", "MotifVideoImage2Video"])
def test_captions_that_are_read_with_a_picture_are_refused(name):
    pipe = ROWS[name].build()
    pipe.register_modules(tokenizer=tokenizer(77), text_encoder=seeded(clip))
    if "tokenizer_2" in pipe.components:
        pipe.register_modules(tokenizer_2=tokenizer(77), text_encoder_2=seeded(clip))
    with pytest.raises(UnsupportedError, match="its captions are read together with a picture"):
        segment(pipe, Generate(CAPTION), ["red"])


def test_a_map_is_enlarged_frame_by_frame_and_linear_in_time():
    heats = torch.rand(2, 3, 4, 6)
    found = enlarged(heats, (9, 8, 12))
    for frame in range(9):
        before, share = divmod(frame, 4)
        after = heats[:, min(before + 1, 2)]
        moment = (1 - share / 4) * heats[:, before] + share / 4 * after
        expected = F.interpolate(moment[None], (8, 12), mode="bilinear")[0]
        torch.testing.assert_close(found[:, frame], expected)


def test_masks_and_labels_are_of_all_frames_together():
    heats = torch.zeros(2, 3, 2, 2)
    heats[0, 0], heats[1, 1:, 0] = 3.0, 1.0
    found = WordSegmentation(("a", "b"), heats[None], (3, 2, 2))
    assert found.masks[0].tolist() == [[[True] * 2] * 2, [[False] * 2] * 2, [[False] * 2] * 2]
    assert found.labels.tolist() == [[[0] * 2] * 2, *[[[1] * 2, [-1] * 2]] * 2]


def test_layers_of_several_grids_are_brought_to_the_finest():
    mean = LayerMean()
    mean.add(torch.full((1, 2, 2, 2), 1 / 8))
    mean.add(torch.full((1, 2, 4, 4), 1 / 32))
    torch.testing.assert_close(mean.value(), torch.full((1, 2, 4, 4), 1 / 32))


def test_a_given_picture_is_refused_and_told_what_is_not(read):
    name = type(read[1]).__name__
    with pytest.raises(UnsupportedError, match=rf"segment what {name} draws, with Generate\(prompt\)"):
        segment(read[1], image(8, 8), ["red"])


@torch.no_grad()
@pytest.mark.matrix
def test_words_after_quoted_text_stand_behind_its_letters():
    """HunyuanVideo 1.5 has tokens of ByT5 for what is quoted, before all others."""
    row = DRAWN_READERS["HunyuanVideo 1.5"]
    pipe = apart(row.build())
    plain, quoted = (word_tokens(pipe, caption, ["red"])[0] for caption in ("a box red", 'a "box" red'))
    assert (quoted - plain).tolist() == [2 + len('<Text "box". >')] * 3
    one, record = keys((row, pipe), 'a "box" red')
    other, _ = keys((row, pipe), 'a "box" xyz')
    assert sorted((one - other).norm(dim=-1).topk(3).indices) == sorted(record.text.start + quoted)
