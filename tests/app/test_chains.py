"""What is shown is what the library's functions give, bit for bit."""

import numpy as np
import pytest
import torch
from diffusers import AutoPipelineForText2Image

from tokenrank_guidance import capture, multi_bounce, tokenrank
from tokenrank_guidance.app.chains import chain_of, rank, walk
from tokenrank_guidance.app.passes import run_pass
from tokenrank_guidance.app.state import Source, State
from tokenrank_guidance.app.watching import Cancelled, Watch
from tokenrank_guidance.errors import UnsupportedError
from tokenrank_guidance.files.pictures import open_picture
from tokenrank_guidance.markov.heads import rough_second_eigenvalue


@pytest.mark.parametrize("heads", ["lambda2", "mean", "1"])
@pytest.mark.parametrize("direction", ["outgoing", "incoming"])
def test_every_bounce_is_multi_bounce_s(explorer, state, heads, direction):
    captured = explorer.captured(state.source)
    record = captured.record(None, "auto")
    weights = torch.eye(record.heads)[1] if heads == "1" else heads
    walks = walk(chain_of(captured, state.of(heads=heads)), 5, direction)
    for n, found in enumerate(walks, 1):
        assert torch.equal(found, multi_bounce(record, 5, n, direction, weights)[0])


def test_the_walk_on_the_page_is_the_token_s(explorer, state):
    scene = explorer.scene(state.of(token=5))
    record = explorer.captured(state.source).record(None, "auto")
    assert len(scene.heats) == 8 and scene.shown == 2 and scene.heats[2].name == "3 bounces"
    expected = multi_bounce(record, 5, 3, head_weights="lambda2")[0].unflatten(0, record.grid)
    assert np.array_equal(scene.heats[2].values, expected.numpy())
    assert scene.heats[2].low == pytest.approx(np.quantile(expected.numpy(), 0.01))


@pytest.mark.parametrize("region", [(), (0, 1, 3)])
def test_the_rank_is_tokenrank_s_and_says_how_it_was_found(explorer, state, region):
    captured = explorer.captured(state.source)
    image = captured.record(None, "auto").restrict("image")
    start = None
    if region:
        start = torch.zeros(image.tokens)
        start[list(region)] = 1
    asked = state.of(view="tokenrank", region=region, damping=0.9)
    expected = tokenrank(image, damping=0.9, head_weights="lambda2", personalization=start)
    assert torch.equal(rank(captured, asked).value, expected)
    assert any("residual" in fact for fact in explorer.scene(asked).facts)


def test_heads_are_sorted_by_lambda2(explorer, state):
    captured = explorer.captured(state.source)
    tiles = explorer.scene(state.of(view="heads", token=2)).tiles
    values = [tile.lambda2 for tile in tiles]
    assert values == sorted(values, reverse=True)
    assert len(tiles) == sum(captured.record(None, layer).heads for layer in captured.layers)
    one = tiles[0]
    record = captured.record(None, one.layer)
    assert one.lambda2 == rough_second_eigenvalue(record)[0, one.head].item()


def test_the_steps_under_the_prompt_are_kept(explorer, state, model):
    """FLUX makes two calls a step with classifier-free guidance, the UNet one of two rows."""
    for name, calls in (("tiny-sd", [0, 1, 2]), ("tiny-flux", [0, 2, 4])):
        source = state.of(model=model(name)).source
        captured = explorer.captured(source)
        assert list(captured.calls.values()) == calls
        assert all(record.batch == 1 for record in captured.records.values())
    assert explorer.scene(state.of(model=model("tiny-flux"))).others  # its text tokens can be clicked


def test_little_memory_keeps_fewer_steps_and_at_least_the_default_layer(explorer, model):
    source = Source(model=model("tiny-sd"), steps=5)
    opened = explorer.model(source.model)
    whole = run_pass(opened, source, None, 2**30, Watch())
    half = run_pass(opened, source, None, whole.bytes // 2, Watch())
    least = run_pass(opened, source, None, 1, Watch())
    assert (whole.steps, half.steps, least.steps) == ([0, 1, 2, 3, 4], [1, 4], [4])
    assert half.layers == whole.layers and least.layers == [least.auto]
    step = half.steps[-1]
    assert torch.equal(half.record(step, "auto").q, whole.record(step, "auto").q)


def test_capture_changes_no_pixel(explorer, state):
    captured = explorer.captured(state.source)
    with capture(captured.opened.network, "auto"):
        again = run_pass(captured.opened, state.source, None, 2**28, Watch())
    assert np.array_equal(np.asarray(again.picture), np.asarray(captured.picture))


def test_a_vision_transformer_s_class_token_and_registers(explorer, vit, picture):
    digest = explorer.keep_picture(open_picture(picture))
    scene = explorer.scene(State(Source(model=vit, picture=digest)))
    assert [text for _, text in scene.others] == ["class token", "register 0", "register 1", "register 2"]
    assert scene.grid == (4, 4) and scene.picture.size == (32, 32) and scene.first == 4
    assert explorer.scene(State(Source(model=vit, picture=digest), view="segments")).images


def test_cancelled_work_stops_at_the_next_call_and_leaves_no_hook(explorer, state):
    watch = Watch(told=lambda done, what: done > 0.3 and watch.stop.set())
    source = state.of(seed=77).source
    with pytest.raises(Cancelled):
        explorer.captured(source, watch)
    network = explorer.model(source.model).network
    assert not explorer.is_ready(source) and not network._forward_pre_hooks and not network._forward_hooks


@pytest.mark.filterwarnings("ignore:You have disabled the safety checker:UserWarning")
def test_pag_is_diffusers_own_and_its_attention_is_restored(explorer, state):
    asked = state.of(view="guidance", arms=("pag",), pag_scale=2.0)
    scene = explorer.scene(asked)
    pipe = explorer.model(asked.source.model).pipe
    before = pipe.unet.attn_processors
    theirs = AutoPipelineForText2Image.from_pipe(pipe, enable_pag=True)
    given = {"num_inference_steps": 3, "guidance_scale": 4.0, "pag_scale": 2.0}
    (expected,) = theirs(asked.source.prompt, generator=torch.Generator().manual_seed(4), **given).images
    assert np.array_equal(np.asarray(scene.images["PAG"]), np.asarray(expected))
    assert list(scene.images) == ["unguided", "PAG", "difference:PAG"] and not scene.heats
    assert not np.array_equal(np.asarray(expected), np.asarray(scene.images["unguided"]))
    watch = Watch(told=lambda done, what: what == "PAG" and done > 0.3 and watch.stop.set())
    with pytest.raises(Cancelled):
        explorer.scene(asked.of(pag_scale=1.0), watch)
    assert pipe.unet.attn_processors == before


def test_pag_is_refused_where_diffusers_has_none_before_anything_is_drawn(explorer, state, model):
    asked = state.of(model=model("tiny-flux"), view="guidance", arms=("sag", "pag"))
    explorer.captured(asked.source)
    told = []
    with pytest.raises(UnsupportedError, match="diffusers has no PAG for FluxPipeline: leave pag out"):
        explorer.scene(asked, Watch(told=lambda done, what: told.append(what)))
    assert told == []


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"layer": "mid"}, "layer: got 'mid', expected auto or one of"),
        ({"step": 9}, "step: got 9, expected one whose attention is kept: 0, 1, 2"),
        ({"heads": "64"}, "heads: got 64, expected a number below"),
        ({"token": 10_000}, "start: token 10000 is not in"),
        ({"picture": "0" * 64}, "the picture of this link is not here"),
        ({"view": "words", "words": "boat"}, "'boat' does not occur in the caption"),
        ({"view": "segments", "anchors": "nowhere"}, "anchors: got 'nowhere'"),
        ({"view": "guidance", "arms": ("dag",)}, "arms: got dag, expected some of tokenrank, sag"),
        ({"model": "no-such-model"}, "no model 'no-such-model'; expected one of"),
    ],
)
def test_what_cannot_be_shown_says_why(explorer, state, changes, said):
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - the text is compared below
        explorer.scene(state.of(**changes))
    assert said in str(caught.value)
