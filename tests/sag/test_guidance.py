"""The public object: its fields, enabling and disabling, and what it lets one read back."""

import copy
import pickle
from dataclasses import FrozenInstanceError, replace

import diffusers as d
import networkx
import pytest
import torch

from sag import GuidedStep, SelfAttentionGuidance, TokenRankScorer, guidance_of
from tests.tiny_models import Call, pipeline, run
from tokenrank_guidance import AttentionTap, CaptureError, UnsupportedError, column_sum

BAD = {
    "scorer": ["attention", None, 3],
    "sag_scale": [-0.1, float("nan"), float("inf"), "1", True],
    "damping": [0.0, 1.0, -1, float("nan"), None],
    "head_weights": ["median", None],
    "threshold": [float("nan"), "mean"],
    "blur_kernel": [0, -3, 4, 9.0, True],
    "blur_sigma": [0, -1.0, float("inf")],
    "start": [-0.1, 1.0, float("nan"), "0"],
    "stop": [0.0, 1.1, float("nan"), None],
    "every": [0, -1, 1.5, True],
    "mask": ["fuzzy", None, True, ["soft"]],
    "reuse": [0, -1, 1.5, True, None],
    "keep_contrast": [-0.1, 1.1, float("nan"), True, "1"],
}


@pytest.mark.parametrize(
    ("field", "value"), [(field, value) for field, values in BAD.items() for value in values]
)
def test_a_bad_field_is_named_with_its_value_and_what_is_expected(field, value):
    with pytest.raises(ValueError, match=f"^{field} is ") as raised:
        SelfAttentionGuidance(**{field: value})
    assert f"{field} is {value!r}; expected " in str(raised.value)


def test_stop_before_start_is_an_error():
    with pytest.raises(ValueError, match=r"stop is 0.3; expected a number in \(0.5, 1\]"):
        SelfAttentionGuidance(start=0.5, stop=0.3)


@pytest.mark.parametrize("threshold", [0, -1.0, "1", float("nan")])
def test_a_soft_mask_needs_a_positive_threshold(threshold):
    with pytest.raises(ValueError, match=f"threshold is {threshold!r}; expected a "):
        SelfAttentionGuidance(mask="soft", threshold=threshold)


def test_the_former_name_of_keep_contrast_goes_on_working():
    with pytest.warns(DeprecationWarning, match="rescale is now called keep_contrast"):
        guidance = SelfAttentionGuidance(sag_scale=2.0, rescale=0.25)
    assert (guidance.keep_contrast, guidance.sag_scale) == (0.25, 2.0)
    assert replace(guidance, sag_scale=1.0).keep_contrast == 0.25
    with pytest.warns(match="now called"), pytest.raises(ValueError, match=r"keep_contrast is 1\.5"):
        SelfAttentionGuidance(rescale=1.5)


def test_fields_are_fixed_and_replaced_by_a_copy():
    guidance = SelfAttentionGuidance()
    with pytest.raises(FrozenInstanceError):
        guidance.sag_scale = 2.0
    assert replace(guidance, sag_scale=2.0).sag_scale == 2.0
    with pytest.raises(ValueError, match="every is 0"):
        replace(guidance, every=0)


def test_a_copy_of_an_enabled_guidance_is_not_enabled():
    pipe = pipeline("sd")
    with SelfAttentionGuidance()(pipe) as guidance:
        copy = replace(guidance, sag_scale=0.1)
        with copy(pipeline("sd", seed=1)):
            assert copy.steps == []


def test_enabling_twice_is_an_error():
    pipe, other = pipeline("sd"), pipeline("sd", seed=1)
    guidance = SelfAttentionGuidance().enable(pipe)
    for target in (pipe, other):
        with pytest.raises(RuntimeError, match=r"already enabled; call disable\(\) first"):
            guidance.enable(target)
    with pytest.raises(RuntimeError, match="another guidance is enabled on this StableDiffusionPipeline"):
        SelfAttentionGuidance().enable(pipe)
    guided = run("sd", pipe)
    assert guidance_of(pipe) is guidance
    assert guidance_of(other) is None
    guidance_of(pipe).disable()
    assert guidance_of(pipe) is None
    with guidance(pipe):
        assert torch.equal(run("sd", pipe), guided)


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, lambda one: pickle.loads(pickle.dumps(one))])
def test_a_copy_is_not_enabled_and_leaves_the_original_so(copied):
    pipe, other = pipeline("sd"), pipeline("sd", seed=1)
    with SelfAttentionGuidance(sag_scale=2.0)(pipe) as guidance:
        guided = run("sd", pipe)
        twin = copied(guidance)
        assert (twin.sag_scale, len(twin.steps)) == (2.0, len(guidance.steps))
        twin.enable(other)
        twin.disable()
        assert guidance_of(pipe) is guidance
        assert torch.equal(run("sd", pipe), guided)


def test_disabling_twice_or_never_enabled_does_nothing():
    guidance = SelfAttentionGuidance()
    guidance.disable()
    guidance.enable(pipeline("sd"))
    guidance.disable()
    guidance.disable()


def test_a_pipeline_without_a_denoiser_is_refused():
    with pytest.raises(UnsupportedError, match="dict has neither a unet nor a transformer"):
        SelfAttentionGuidance().enable({})


class OtherDenoiser(torch.nn.Module):
    pass


class Pipe:
    def __init__(self, unet, scheduler=None):
        self.unet, self.scheduler = unet, scheduler


def test_an_unknown_denoiser_is_refused():
    with pytest.raises(
        UnsupportedError,
        match=r"cannot guide OtherDenoiser: how it is called is not known here; known: .*UNet2D",
    ):
        SelfAttentionGuidance().enable(Pipe(OtherDenoiser()))


def test_an_unknown_scheduler_is_refused_and_leaves_nothing():
    guidance = SelfAttentionGuidance()
    with pytest.raises(UnsupportedError, match="cannot guide with NoneType"):
        guidance.enable(Pipe(pipeline("sd").unet))
    with guidance(pipeline("sd")):
        pass


def test_an_unknown_layer_is_refused_with_the_closest_names():
    guidance, pipe = SelfAttentionGuidance(layers="mid_block.attentions.0.attn1"), pipeline("sd")
    with pytest.raises(ValueError, match=r"Closest: mid_block\.attentions\.0\.transformer_blocks\.0\.attn1"):
        guidance.enable(pipe)
    with SelfAttentionGuidance()(pipe):
        pass


def test_attention_slicing_is_an_error_with_advice():
    pipe = pipeline("sd")
    pipe.enable_attention_slicing()
    with SelfAttentionGuidance()(pipe), pytest.raises(CaptureError, match="Undo attention slicing"):
        run("sd", pipe)


def test_nan_in_attention_is_an_error():
    pipe = pipeline("sd")
    layer = pipe.unet.get_submodule(AttentionTap(pipe.unet).layers[0])
    layer.to_q.weight.data[0, 0] = torch.nan
    with SelfAttentionGuidance()(pipe), pytest.raises(ValueError, match="expected finite"):
        run("sd", pipe)


def test_steps_are_those_of_the_last_run():
    pipe, guidance = pipeline("sd"), SelfAttentionGuidance()
    assert guidance.steps == []
    with guidance(pipe):
        run("sd", pipe, Call(steps=3, batch=2))
        first = guidance.steps
        run("sd", pipe, Call(steps=2))
        second = guidance.steps
    assert [step.number for step in first] == [0, 1, 2]
    assert [step.number for step in second] == [0, 1]
    assert guidance.steps == second
    with guidance(pipe):
        assert guidance.steps == second
        run("sd", pipe, Call(steps=1))
        assert len(guidance.steps) == 1
    assert len(first) == 3
    assert len(second) == 2


def test_a_step_holds_its_timestep_score_and_mask():
    pipe = pipeline("sd")
    with SelfAttentionGuidance(threshold=1.2)(pipe) as guidance:
        run("sd", pipe, Call(batch=2, width=48))
    assert [step.timestep for step in guidance.steps] == pipe.scheduler.timesteps.tolist()
    for step in guidance.steps:
        assert isinstance(step, GuidedStep)
        assert step.score.shape == (2, 8, 12)
        torch.testing.assert_close(step.score.mean((1, 2)), torch.ones(2))
        assert torch.equal(step.mask, step.score > 1.2)
        assert 0 < step.mask.float().mean() < 1


def test_a_step_of_soft_masks_holds_weights():
    pipe = pipeline("sd")
    with SelfAttentionGuidance(threshold=1.2, mask="soft")(pipe) as guidance:
        run("sd", pipe, Call(batch=2))
    for step in guidance.steps:
        torch.testing.assert_close(step.mask, (step.score / 2.4).clamp(max=1))
        assert step.mask.dtype == step.score.dtype


def pagerank(matrix):
    graph = networkx.from_numpy_array(matrix.double().numpy(), create_using=networkx.DiGraph)
    rank = networkx.pagerank(graph, alpha=0.99, tol=1e-12, max_iter=10_000)
    return torch.tensor([len(matrix) * rank[i] for i in range(len(matrix))])


@pytest.mark.parametrize("name", ["sd", "flux", "dit"])
def test_the_guided_run_scores_by_pagerank_and_not_by_column_sum(name):
    kept = []

    def scorer(record):
        kept.append(record)
        return TokenRankScorer()(record)

    pipe = pipeline(name)
    with SelfAttentionGuidance(scorer)(pipe) as guidance:
        spied = run(name, pipe)
    for step, record in zip(guidance.steps, kept, strict=True):
        chain = record.transition("image")
        expected = pagerank(chain.to_dense()[0].mean(0))
        torch.testing.assert_close(step.score[0].flatten(), expected, rtol=0, atol=1e-3)
        assert not torch.equal(expected > 1, column_sum(chain)[0] > 1)
    with SelfAttentionGuidance()(pipe):
        assert torch.equal(run(name, pipe), spied)


def test_every_setting_reaches_the_images():
    pipe, call = pipeline("sd"), Call(steps=3)
    settings = [
        {},
        {"scorer": "sag"},
        {"scorer": "tokenrank-incoming"},
        {"sag_scale": 0.3},
        {"layers": -1},
        {"damping": 0.5},
        {"head_weights": "lambda2", "mask": "soft"},
        {"threshold": 1.3},
        {"blur_kernel": 3},
        {"blur_sigma": 3.0},
        {"start": 0.5},
        {"stop": 0.5},
        {"every": 2},
        {"reuse": 2},
        {"layers": ["auto", -1]},
        {"mask": "soft"},
        {"mask": "soft", "threshold": 1.3},
        {"keep_contrast": 0.0},
        {"keep_contrast": 0.5},
    ]
    images = []
    for setting in settings:
        with SelfAttentionGuidance(**setting)(pipe):
            images.append(run("sd", pipe, call))
    for i in range(len(images)):
        assert all((images[i] - images[j]).abs().max() > 1e-5 for j in range(i))


def test_several_layers_are_scored_on_the_finest_grid():
    pipe = pipeline("sd")
    with SelfAttentionGuidance(layers=["auto", 0])(pipe) as guidance:
        run("sd", pipe)
    assert guidance.steps[0].score.shape == (1, 16, 16)
    torch.testing.assert_close(guidance.steps[0].score.mean(), torch.tensor(1.0))


def test_an_exchanged_scheduler_is_used_from_the_next_run():
    pipe = pipeline("sd")
    euler = d.EulerDiscreteScheduler.from_config(pipe.scheduler.config)
    with SelfAttentionGuidance()(pipe):
        run("sd", pipe)
        pipe.scheduler = euler
        exchanged = run("sd", pipe)
    with SelfAttentionGuidance()(pipe):
        assert torch.equal(run("sd", pipe), exchanged)


def test_a_scheduler_exchanged_for_an_unsupported_one_is_an_error():
    pipe = pipeline("sd")
    with SelfAttentionGuidance()(pipe):
        pipe.scheduler = d.DDIMInverseScheduler.from_config(pipe.scheduler.config)
        with pytest.raises(UnsupportedError, match="cannot guide with DDIMInverseScheduler"):
            run("sd", pipe)
