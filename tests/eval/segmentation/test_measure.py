"""The shared computation of all arms gives what `diffseg` gives for each alone."""

import pytest
import torch

from diffseg import DiffSeg, segment_maps
from diffseg.settings import make_settings
from eval.segmentation import measure
from eval.segmentation.arms import grid_of_arms
from eval.segmentation.attention import PipeAttention, Seen, VitAttention
from eval.segmentation.measure import Measurement
from eval.segmentation.options import DEFAULT_ANCHORS
from tests import tiny_vits
from tests.diffseg.helpers import image, record
from tests.tiny_models import pipeline

SIZE = (20, 28)


class Counted:
    """Attention made by hand, and how often it was asked for."""

    model = torch.nn.Identity()

    def __init__(self, settings):
        from diffseg.maps.aggregate import resolution_maps

        self.settings, self.calls = settings, 0
        self.maps = resolution_maps(
            [record((8, 12), dtype=torch.float32), record((4, 6), dtype=torch.float32)]
        )

    def __call__(self, picture):
        self.calls += 1
        return Seen(self.maps, lambda: torch.eye(96))


@pytest.mark.parametrize("refine", [None, "kmeans"])
def test_every_arm_equals_its_own_segmentation(refine):
    settings = make_settings("default", {"num_anchors": 30, "refine": refine})
    arms = grid_of_arms(DEFAULT_ANCHORS, (0.02, 0.2, "auto"))
    attention = Counted(settings)
    outcome = Measurement(attention, arms, settings)(image(*SIZE), SIZE)
    assert attention.calls == 1 and outcome.attention > 0
    counted = set()
    for arm, one in zip(arms, outcome.arms, strict=True):
        alone = make_settings(
            "default",
            {"num_anchors": 30, "refine": refine, "anchors": arm.anchors, "kl_threshold": arm.threshold},
        )
        expected = segment_maps(attention.maps, SIZE, alone)[0]
        assert torch.equal(one.labels, expected.labels)
        assert one.threshold == expected.thresholds[0] and one.seconds > 0
        counted.add(len(expected))
    assert len(counted) > 2  # the arms do differ


def test_a_gpu_has_done_its_work_when_the_clock_is_read(monkeypatch):
    done = []
    monkeypatch.setattr("torch.cuda.synchronize", done.append)
    monkeypatch.setattr("time.perf_counter", lambda: len(done))
    assert [measure._now(torch.device(name)) for name in ("cpu", "cuda")] == [0, 1]


def test_a_pipeline_is_run_as_diffseg_runs_it():
    pipe = pipeline("sd")
    changes = {"num_anchors": 9, "resolution": 32}
    settings = make_settings("default", changes)
    arms = grid_of_arms(("tokenrank-grid",), ("auto",))
    picture = image(30, 40)
    outcome = Measurement(PipeAttention(pipe, settings), arms, settings)(picture, (30, 40))
    assert torch.equal(outcome.arms[0].labels, DiffSeg.from_pipe(pipe, **changes)(picture).labels)
    keys = outcome.seen.keys()
    height, width = outcome.seen.grid
    assert keys.shape[0] == height * width
    torch.testing.assert_close(keys.norm(dim=-1), torch.ones(height * width))


def test_a_vit_sees_pictures_of_any_aspect_ratio():
    model = tiny_vits.build("vit")
    settings = make_settings("default", {"num_anchors": 9, "resolution": 48})

    def call(pixels):
        assert pixels.shape[-2] > pixels.shape[-1]
        return model(pixels, interpolate_pos_encoding=True)

    attention = VitAttention(model, call, tiny_vits.PATCH, (0.5,) * 3, (0.5,) * 3, settings)
    seen = attention(image(60, 30))
    assert seen.grid == (8, 4) and seen.keys().shape == (32, 32)
    torch.testing.assert_close(seen.maps[0].matrix.sum(-1), torch.ones(1, 32))
