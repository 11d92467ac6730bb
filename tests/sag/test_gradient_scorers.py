"""Scorers of gradients inside the sampling loop, against autograd through maps that are written out."""

import math

import networkx
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from diffusers import FirstBlockCacheConfig

from sag import SelfAttentionGuidance, TokenRankGuider
from sag.mask import score_image
from sag.scorers import SCORERS
from tests.matrix.rows import ROWS
from tests.matrix.rows import run as draw
from tests.sag import test_guider
from tests.sag.helpers import recorded, traces
from tests.sag.test_mask import record
from tests.tiny_models import Call, denoiser, pipeline, run
from tokenrank_guidance import CaptureError, UnsupportedError
from tokenrank_guidance.capture import AttentionTap
from tokenrank_guidance.cli.overlap import PairedScorer

NAMES = ("gradient-chain", "gradient-rollout")
DAMPING = 0.9
CALL = Call(steps=1, batch=2)
IMAGE = {"flux": slice(-64, None), "sd3": slice(0, 64)}  # of text and image together
UNCONDITIONAL = {"flux": slice(None), "sd3": slice(0, 2), "sd": slice(0, 2)}  # of the call's rows


def written_out(maps):
    """Attention that keeps its map, by which autograd can derive."""

    def attend(query, key, value, attn_mask=None, dropout_p=0.0, is_causal=False, scale=None, **more):
        logits = query @ key.mT * (1 / math.sqrt(query.shape[-1]) if scale is None else scale)
        maps.append((logits if attn_mask is None else logits + attn_mask).softmax(-1))
        return maps[-1] @ value

    return attend


def first_call(family, pipe):
    seen = []
    keep = lambda module, args, kwargs: seen.append((args, dict(kwargs)))  # noqa: E731
    handle = denoiser(pipe).register_forward_pre_hook(keep, with_kwargs=True)
    run(family, pipe, CALL)
    handle.remove()
    return seen[0]


def attributed(family, pipe, layers):
    """(∇A ⊙ A)⁺ of image tokens, of rows without the prompt, mean over heads, layer by layer, for ½‖ε‖²."""
    model, rows = denoiser(pipe), UNCONDITIONAL[family]
    args, kwargs = first_call(family, pipe)
    maps, places = [], []
    handles = [
        model.get_submodule(layer).register_forward_pre_hook(lambda *_: places.append(len(maps)))
        for layer in AttentionTap(model, layers).layers
    ]
    with pytest.MonkeyPatch.context() as patch, torch.enable_grad():
        patch.setattr(F, "scaled_dot_product_attention", written_out(maps))
        predicted = model(*args, **kwargs)[0][rows]
    for handle in handles:
        handle.remove()
    chosen = [maps[place] for place in places]
    slopes = torch.autograd.grad(predicted.square().sum() / 2, chosen)
    found = []
    for one, own in zip(chosen, slopes, strict=True):
        image = slice(None) if one.shape[-1] == 64 else IMAGE[family]
        part, own = one[rows, :, image, image], own[rows, :, image, image]
        part = part / part.sum(-1, keepdim=True)
        found.append((part * own).clamp_min(0).mean(1).detach().numpy())
    return found


def by_networkx(layers):
    chain = sum(layers)
    graph = networkx.from_numpy_array(chain / chain.sum(-1, keepdims=True), create_using=networkx.DiGraph)
    score = networkx.pagerank(graph, alpha=DAMPING, tol=1e-12, max_iter=1000)
    return np.array([score[i] for i in range(len(chain))])


def by_the_product(layers):
    walk = np.eye(len(layers[0]))
    for one in layers:
        walk = (np.eye(len(one)) + one) @ walk
    return (walk - np.eye(len(walk))).sum(0)


ORACLES = {"gradient-chain": by_networkx, "gradient-rollout": by_the_product}


@pytest.mark.filterwarnings("ignore:nothing was guided")  # rectified flow begins with noise alone
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("family", "layers"), [("sd", "auto"), ("sd3", [0, 1]), ("flux", [0, 2])])
def test_the_first_step_is_scored_as_by_maps_and_autograd(family, layers, name):
    pipe = pipeline(family, dtype=torch.float64)
    kept = attributed(family, pipe, layers)
    with SelfAttentionGuidance(scorer=name, layers=layers, damping=DAMPING)(pipe) as guidance:
        run(family, pipe, CALL)
    for row, found in enumerate(guidance.steps[0].score.flatten(1).numpy()):
        expected = ORACLES[name]([one[row] for one in kept])
        np.testing.assert_allclose(found, expected / expected.mean(), rtol=1e-4)


def test_it_costs_one_pass_more_and_leaves_nothing():
    pipe = pipeline("sd")
    before, passes = traces(pipe.unet), {}
    for name in ("tokenrank", "gradient-chain"):
        with SelfAttentionGuidance(scorer=name)(pipe), recorded(denoiser(pipe)) as calls:
            run("sd", pipe)
        passes[name] = len(calls)
    assert passes["gradient-chain"] == passes["tokenrank"] + 2
    assert all(parameter.grad is None for parameter in pipe.unet.parameters())
    assert traces(pipe.unet) == before
    assert not torch.is_inference_mode_enabled() and torch.is_grad_enabled()


@pytest.mark.parametrize("frozen", [False, True])
def test_inference_mode_and_frozen_weights_change_nothing(frozen):
    pipe = pipeline("sd")
    found = []
    for mode in (False, True):
        pipe.unet.requires_grad_(not (frozen and mode))
        with torch.inference_mode(mode), SelfAttentionGuidance(scorer="gradient-chain")(pipe) as guidance:
            run("sd", pipe)
        found.append(torch.stack([step.score for step in guidance.steps]))
    torch.testing.assert_close(found[0], found[1], rtol=0, atol=0)


@pytest.mark.parametrize("name", NAMES)
def test_half_precision_ranks_nearly_alike(name):
    scores = {}
    for dtype in (torch.float32, torch.bfloat16):
        pipe = pipeline("sd").to(dtype)
        with SelfAttentionGuidance(scorer=name)(pipe) as guidance:
            run("sd", pipe, CALL)
        scores[dtype] = guidance.steps[0].score.flatten().float().numpy()
    assert np.corrcoef(*scores.values())[0, 1] > 0.98


def test_a_cache_that_spares_layers_is_refused():
    pipe = pipeline("flux")
    pipe.transformer.enable_cache(FirstBlockCacheConfig(threshold=0.1))
    with (
        SelfAttentionGuidance(scorer="gradient-chain")(pipe),
        pytest.raises(UnsupportedError, match="spares layers that a scorer of gradients goes back through"),
    ):
        run("flux", pipe)


def test_attention_with_keys_of_others_is_named():
    """Kandinsky 2.2 attends to the prompt's keys beside its own."""
    pipe = pipeline("kandinsky")
    with (
        SelfAttentionGuidance(scorer="gradient-chain")(pipe),
        pytest.raises(CaptureError, match="does not attend by one call"),
    ):
        run("kandinsky", pipe)


def test_records_without_gradients_are_refused():
    with pytest.raises(ValueError, match="reads gradients, which AttentionRecord"):
        score_image([record((3, 4))], SCORERS["gradient-chain"].make(SelfAttentionGuidance()))


def test_the_guider_ranks_as_the_hook_on_the_classic_pipeline():
    pipe = pipeline("sdxl")
    wanted = test_guider.classic("sdxl", pipe, SelfAttentionGuidance("gradient-chain"), 1.0)
    other = test_guider.modular("sdxl", pipe.components)
    guider = TokenRankGuider(1.0, scorer="gradient-chain").bind(other.scheduler)
    assert test_guider.error(test_guider.guided("sdxl", other, guider), wanted) <= 1e-5


def test_only_what_follows_the_first_ranked_layer_has_a_graph():
    """The middle block is ranked: what goes down before it keeps nothing, what goes up after it does."""
    pipe, graphs = pipeline("sd"), []
    watch = lambda module, args, output: graphs.append(_first(output).requires_grad)  # noqa: E731
    handles = [
        part.register_forward_hook(watch) for part in (pipe.unet.down_blocks[0], pipe.unet.up_blocks[-1])
    ]
    with SelfAttentionGuidance(scorer="gradient-chain")(pipe):
        run("sd", pipe, CALL)
    for handle in handles:
        handle.remove()
    own, gradient, blurred = zip(graphs[::2], graphs[1::2], strict=True)
    assert own == blurred == (False, False) and gradient == (False, True)


def _first(output):
    return output if isinstance(output, torch.Tensor) else output[0]


@pytest.mark.parametrize("raised", [KeyboardInterrupt, RuntimeError])
def test_nothing_stays_after_an_end_in_the_pass_back(raised):
    pipe = pipeline("sd")
    before = traces(pipe.unet)

    def stop(module, args, output):
        if torch.is_grad_enabled():
            raise raised("stop")

    handle = pipe.unet.up_blocks[-1].register_forward_hook(stop)
    with SelfAttentionGuidance(scorer="gradient-chain")(pipe):
        with pytest.raises((raised, CaptureError), match="stop"):
            run("sd", pipe, CALL)
        handle.remove()
        run("sd", pipe, CALL)
    assert traces(pipe.unet) == before and torch.is_grad_enabled()
    assert not torch.overrides._get_current_function_mode_stack()


def test_one_that_watches_beside_another_gets_gradients_too():
    pipe, scores = pipeline("sd"), {}
    for name in ("sag", "gradient-chain"):
        with SelfAttentionGuidance(scorer=name)(pipe) as guidance:
            run("sd", pipe, CALL)
        scores[name] = guidance.steps[0].score
    paired = PairedScorer(*(SCORERS[name].make(SelfAttentionGuidance()) for name in scores))
    with SelfAttentionGuidance(scorer=paired)(pipe) as guidance:
        run("sd", pipe, CALL)
    torch.testing.assert_close(guidance.steps[0].score, scores["sag"])
    torch.testing.assert_close(paired.seen[0], scores["gradient-chain"])


@pytest.mark.filterwarnings("ignore:nothing was guided")
def test_what_is_predicted_of_a_given_frame_does_not_count():
    """It is thrown away, so that what attention did for it shaped nothing."""
    row = ROWS["LTXImageToVideo"]
    pipe, arguments, scores = row.build(), row.arguments(Call(steps=1, cfg=False)), []
    weight = torch.ones(1, 192, 1)
    pipe.transformer.proj_out.register_forward_hook(lambda module, args, made: made * weight)
    for given, drawn in ((1, 1), (9, 1), (1, 3)):
        weight[:, :64], weight[:, 64:128] = given, drawn
        with SelfAttentionGuidance("gradient-chain")(pipe) as guidance:
            draw(pipe, arguments)
        scores.append(guidance.steps[0].score)
    torch.testing.assert_close(scores[1], scores[0])
    assert (scores[2] - scores[0]).abs().max() > 0.1
