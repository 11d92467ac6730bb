"""One call may draw section by section, each by a schedule of its own: `steps` are those of all of them."""

import gc
from dataclasses import replace

import pytest
import torch

from sag import SelfAttentionGuidance, TokenRankGuider
from sag.caller import Call as RunningCall
from tests.matrix.building import IMAGE
from tests.matrix.preparing import inference
from tests.matrix.rows import ROWS
from tests.matrix.video import PICTURE, film
from tests.matrix.video_later import LONG
from tests.sag.test_guider_later import quiet_logger
from tests.sag.test_guider_videos import both, in_blocks
from tests.sag.test_restore import Failing
from tests.tiny_models import Call

__all__ = ["quiet_logger"]
STEPS = 2
CALL = Call(steps=STEPS, cfg=False)
TWICE = torch.cat([film(CALL)] * 2, 1)
# Of each pipeline, what makes its call draw so many sections.
SECTIONS = {
    "Helios": ({"num_frames": 10}, 2),
    "HunyuanVideoFramepack": ({"num_frames": 10, "output_type": "latent"}, 2),
    "WanAnimate": (dict.fromkeys(("pose_video", "face_video"), [PICTURE] * (2 * LONG - 1)), 2),
    "Cosmos2_5_Transfer": ({"controls": TWICE, "num_frames": 9}, 2),
    "MarigoldDepth": ({"image": torch.cat([IMAGE] * 3), "batch_size": 1}, 3),
    "AnimateDiff": ({}, 3),
}
QUICK = ("Helios", "MarigoldDepth")


def built(name):
    pipe = ROWS[name].build()
    if name == "AnimateDiff":
        pipe.enable_free_init(num_iters=3)
    return pipe, ROWS[name].arguments(CALL) | SECTIONS[name][0]


def drawn(pipe, arguments):
    pipe(**arguments, generator=torch.Generator().manual_seed(0))


def numbers(guidance):
    return [step.number for step in guidance.steps]


@pytest.mark.parametrize(
    "name", [one if one in QUICK else pytest.param(one, marks=pytest.mark.slow) for one in SECTIONS]
)
def test_steps_are_those_of_all_sections_and_of_the_last_call_alone(name):
    pipe, arguments = built(name)
    wanted = [*range(STEPS)] * SECTIONS[name][1]
    with SelfAttentionGuidance()(pipe) as guidance:
        for _ in range(2):
            drawn(pipe, arguments)
            assert numbers(guidance) == wanted
            assert [step.timestep for step in guidance.steps[:STEPS]] == pipe.scheduler.timesteps.tolist()


def alive():
    gc.collect()
    return [one for one in gc.get_objects() if type(one) is RunningCall]


def test_a_call_after_one_that_was_stopped_begins_anew():
    pipe, arguments = built("Helios")
    before = alive()  # of tests whose tracebacks are kept
    layer = pipe.transformer.blocks[0].attn1
    with SelfAttentionGuidance()(pipe) as guidance:
        layer.processor, whole = Failing(layer.processor, KeyboardInterrupt(), 4), layer.processor
        with pytest.raises(KeyboardInterrupt) as stopped:  # which holds the frame of that call
            drawn(pipe, arguments)
        assert numbers(guidance) == [0, 1]
        layer.processor = whole
        drawn(pipe, arguments)
        assert numbers(guidance) == [0, 1, 0, 1] and stopped.tb
    del stopped
    assert all(any(one is other for other in before) for one in alive())


def test_a_method_that_calls_its_base_is_one_call():
    pipe, arguments = built("Helios")

    class Twice(type(pipe)):
        def __call__(self, **given):
            for _ in range(2):
                super().__call__(**given)

    pipe.__class__ = Twice
    with SelfAttentionGuidance()(pipe) as guidance:
        for _ in range(2):
            drawn(pipe, arguments | {"num_frames": 5})
            assert numbers(guidance) == [0, 1, 0, 1]


def test_a_call_of_a_pipeline_inside_of_what_is_guided_is_one_call():
    """As a call in inference mode, which no dual numbers check."""
    pipe, arguments = built("Helios")
    wrapped = inference(pipe)
    with SelfAttentionGuidance()(wrapped) as guidance:
        for _ in range(2):
            drawn(wrapped, arguments)
            assert numbers(guidance) == [0, 1, 0, 1]


def test_steps_of_the_guider_are_those_of_all_sections():
    case, _, other = both("helios")
    guider = TokenRankGuider(1.0).guide(other)
    longer = replace(case, own=lambda call: case.own(call) | {"num_frames": 10})
    for _ in range(2):
        in_blocks(longer, other, CALL)
        assert numbers(guider) == [0, 1, 0, 1]
