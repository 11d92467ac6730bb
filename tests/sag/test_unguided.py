"""Where guidance must not act: bit for bit the plain pipeline, and not one more denoiser call."""

from contextlib import nullcontext

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st

from sag import SelfAttentionGuidance
from tests.matrix.rows import ROWS
from tests.matrix.rows import run as draw
from tests.sag.helpers import EVERY_FAMILY, count_calls, traces
from tests.tiny_models import ARGUMENTS, Call, denoiser, pipeline, run

STEPS = 4


def counted(name, pipe, call):
    return count_calls(denoiser(pipe), lambda: run(name, pipe, call))


@pytest.mark.parametrize(("name", "cfg"), EVERY_FAMILY)
def test_scale_0_attaches_nothing_and_changes_no_bit(name, cfg):
    pipe, call = pipeline(name), Call(cfg=cfg)
    plain, calls = counted(name, pipe, call)
    before = traces(denoiser(pipe))
    with SelfAttentionGuidance(sag_scale=0)(pipe) as guidance:
        assert traces(denoiser(pipe)) == before
        images, guided_calls = counted(name, pipe, call)
    assert torch.equal(images, plain)
    assert guided_calls == calls == (2 if (name, cfg) == ("flux", True) else 1) * call.steps
    assert guidance.steps == []


@pytest.mark.parametrize(("name", "cfg"), EVERY_FAMILY)
def test_steps_outside_the_window_are_the_plain_pipelines(name, cfg):
    pipe, call = pipeline(name), Call(cfg=cfg)
    plain, calls = counted(name, pipe, call)
    told = pytest.warns(UserWarning, match=r"nothing was guided .* steps 1 to 2 of 2, of which start=0.6")
    with told, SelfAttentionGuidance(start=0.6, stop=0.9)(pipe) as guidance:  # after the second one began
        images, guided_calls = counted(name, pipe, call)
    assert torch.equal(images, plain)
    assert guided_calls == calls
    assert guidance.steps == []


def test_a_window_before_an_image_to_images_steps_is_said():
    row = ROWS["StableDiffusionImg2Img"]
    pipe, arguments = row.build(), row.arguments(Call(steps=STEPS)) | {"strength": 0.5}
    plain = draw(pipe, arguments)
    with SelfAttentionGuidance(stop=0.5)(pipe), pytest.warns(UserWarning, match="steps 3 to 4 of 4"):
        assert torch.equal(draw(pipe, arguments), plain)
    with SelfAttentionGuidance(stop=0.51)(pipe) as guidance:
        assert not torch.equal(draw(pipe, arguments), plain)
    assert [step.number for step in guidance.steps] == [2]


@pytest.mark.parametrize("name", ["sd3", "flux", "sana-sprint"])
@pytest.mark.parametrize("steps", [1, 2])
def test_noise_alone_is_left_as_it_is(name, steps):
    """Bit for bit, as nothing of a blurred image is in it; a run of nothing else says so."""
    pipe = ROWS["SanaSprint"].build() if name == "sana-sprint" else pipeline(name)
    given = ROWS["SanaSprint"].arguments if name == "sana-sprint" else ARGUMENTS[name]
    arguments, latents = given(Call(steps=steps)) | {"num_inference_steps": steps}, []

    def keep(pipe, number, timestep, kwargs):
        latents.append(kwargs["latents"])
        return kwargs

    def drawn():
        draw(pipe, arguments | {"callback_on_step_end": keep})

    drawn()
    told = pytest.warns(UserWarning, match="noise alone") if steps == 1 else nullcontext()
    with told, SelfAttentionGuidance()(pipe) as guidance:
        drawn()
    plain, guided = latents[:steps], latents[steps:]
    assert torch.equal(plain[0], guided[0])
    assert [step.noise_alone for step in guidance.steps] == [True, False][:steps]
    assert steps == 1 or not torch.equal(plain[1], guided[1])


WINDOWS = {
    (0.0, 1.0, 1): [0, 1, 2, 3],
    (0.0, 0.5, 1): [0, 1],
    (0.5, 1.0, 1): [2, 3],
    (0.25, 0.75, 1): [1, 2],
    (0.0, 1.0, 2): [0, 2],
    (0.25, 1.0, 2): [1, 3],
    (0.0, 1.0, 9): [0],
}


@pytest.mark.parametrize(("start", "stop", "every"), WINDOWS)
def test_guided_steps_and_denoiser_calls(start, stop, every):
    pipe, numbers = pipeline("sd"), WINDOWS[start, stop, every]
    with SelfAttentionGuidance(start=start, stop=stop, every=every)(pipe) as guidance:
        _, calls = counted("sd", pipe, Call(steps=STEPS))
    assert [step.number for step in guidance.steps] == numbers
    assert calls == STEPS + len(numbers)


def test_steps_before_the_window_are_bit_identical():
    pipe, latents = pipeline("sd"), []

    def keep(pipe, number, timestep, kwargs):
        latents.append(kwargs["latents"])
        return kwargs

    call = {"prompt": "a", "height": 32, "width": 32, "num_inference_steps": STEPS, "output_type": "latent"}
    for guidance in (SelfAttentionGuidance(sag_scale=0), SelfAttentionGuidance(start=0.5)):
        with guidance(pipe):
            pipe(**call, generator=torch.Generator().manual_seed(0), callback_on_step_end=keep)
    same = [
        torch.equal(plain, guided) for plain, guided in zip(latents[:STEPS], latents[STEPS:], strict=True)
    ]
    assert same == [True, True, False, False]


@given(cut=st.integers(1, 99), total=st.integers(1, 1000))
@example(cut=7, total=100)  # 0.07 * 100 > 7
def test_adjacent_windows_share_the_steps_out(cut, total):
    first, second = SelfAttentionGuidance(stop=cut / 100), SelfAttentionGuidance(start=cut / 100)
    ahead = [number for number in range(total) if first.guides(number, total)]
    assert ahead == [number for number in range(total) if 100 * number < cut * total]
    assert all(first.guides(n, total) != second.guides(n, total) for n in range(total))


@given(every=st.integers(1, 20), total=st.integers(1, 100))
def test_every_counts_from_the_first_guided_step(every, total):
    guidance = SelfAttentionGuidance(start=0.5, every=every)
    numbers = [number for number in range(total) if guidance.guides(number, total)]
    assert numbers == list(range(-(-total // 2), total, every))
