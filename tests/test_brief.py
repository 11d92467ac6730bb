"""Results say in one line what they hold."""

import pytest
import torch
from PIL import Image

from diffseg import DiffSeg, Segmentation
from diffseg.zero_shot import WordSegmentation
from sag import GuidedStep
from tests.tiny_models import pipeline

GRID = torch.ones(2, 6, 4)
RESULTS = {
    "Segmentation(labels=48×32, masks=2×6×4, anchors=3×2, scores=6×4, names=('sky',), thresholds=(0.5,))": (
        lambda: Segmentation(
            torch.zeros(48, 32, dtype=torch.long),
            GRID,
            torch.zeros(3, 2, dtype=torch.long),
            GRID[0],
            ("sky",),
            (0.5,),
        )
    ),
    "WordSegmentation(concepts=('sky',), steps=1×1×6×4, size=(9, 48, 32), image=None, frames=<9 of them>)": (
        lambda: WordSegmentation(
            ("sky",), GRID[None, :1], (9, 48, 32), frames=(Image.new("RGB", (32, 48)),) * 9
        )
    ),
    "GuidedStep(number=3, timestep=1.5, score=2×6×4, mask=2×6×4, noise_alone=False)": (
        lambda: GuidedStep(3, 1.5, GRID, GRID > 0)
    ),
}


@pytest.mark.parametrize("text", RESULTS)
def test_tensors_are_shown_by_their_shapes(text):
    one = RESULTS[text]()
    assert repr(one) == text
    assert (one == RESULTS[text]()) is False  # and can be compared, by identity


def test_a_segmenter_names_its_pipeline():
    assert repr(DiffSeg.from_pipe(pipeline("sd"))).startswith(
        "DiffSeg(StableDiffusionPipeline, Settings(anchors='tokenrank-grid', "
    )
