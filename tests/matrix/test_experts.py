"""Two denoisers for one picture: SDXL's base for the first part of the schedule, its refiner for the rest."""

import torch

from sag import SelfAttentionGuidance
from tests.matrix.check import denoiser
from tests.matrix.rows import ROWS, refiner, run
from tests.sag.helpers import traces
from tests.tiny_models import Call, pipeline

STEPS, HANDOVER = 4, 0.5


def drawn(base, second, call):
    row = ROWS["StableDiffusionXL"]
    latents = run(base, row.arguments(call) | {"denoising_end": HANDOVER})
    row = ROWS["StableDiffusionXLImg2Img, refiner"]
    return run(second, row.arguments(call) | {"image": latents, "denoising_start": HANDOVER})


def test_base_and_refiner_are_guided_each_in_its_part():
    pipes, call = (pipeline("sdxl"), refiner()), Call(steps=STEPS)
    before, plain = [traces(denoiser(pipe)) for pipe in pipes], drawn(*pipes, call)
    both = [SelfAttentionGuidance(), SelfAttentionGuidance()]
    with both[0](pipes[0]), both[1](pipes[1]):
        guided = drawn(*pipes, call)
    with both[0](pipes[0]):
        half = drawn(*pipes, call)
    numbers = [[step.number for step in guidance.steps] for guidance in both]
    assert numbers == [[0, 1], [2, 3]]
    assert guided.isfinite().all()
    assert not torch.equal(guided, plain) and not torch.equal(half, plain) and not torch.equal(half, guided)
    assert [traces(denoiser(pipe)) for pipe in pipes] == before
