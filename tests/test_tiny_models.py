import pytest
import torch

from tests.tiny_models import FIXED_SIZE, PIPELINES, Call, pipeline, run


@pytest.mark.parametrize("cfg", [True, False])
@pytest.mark.parametrize("name", PIPELINES)
def test_every_family_runs_and_repeats_itself(name, cfg):
    torch.set_num_threads(1)
    pipe = pipeline(name)
    call = Call(cfg=cfg, batch=2, images_per_prompt=2)
    first, second = run(name, pipe, call), run(name, pipe, call)
    assert len(first) == 4
    assert first.isfinite().all()
    assert first.std() > 0.01
    assert torch.equal(first, second)


@pytest.mark.parametrize("name", [name for name in PIPELINES if name != "dit"])
def test_every_family_but_dit_takes_a_size_that_is_not_square(name):
    fixed = name in FIXED_SIZE
    pipe = pipeline(name, size=(24, 40)) if fixed else pipeline(name)
    output = run(name, pipe, Call() if fixed else Call(height=24, width=40))
    assert output.isfinite().all()


def test_pipelines_are_seeded_and_leave_the_global_rng_alone():
    before = torch.random.get_rng_state()
    first, second = pipeline("sd"), pipeline("sd")
    assert torch.equal(before, torch.random.get_rng_state())
    for a, b in zip(first.unet.parameters(), second.unet.parameters(), strict=True):
        assert torch.equal(a, b)
