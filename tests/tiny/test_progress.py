"""The loop around a training step: schedules, the clock, progress, and what is never saved."""

from types import SimpleNamespace

import pytest
import torch

from tokenrank_guidance.tiny import progress
from tokenrank_guidance.tiny.checkpoint import TrainingState
from tokenrank_guidance.tiny.progress import Run, Schedule, draw_rows, step_generator, training_loop


@pytest.fixture
def clock(monkeypatch):
    """A clock that stands still but for what a test adds to `clock.now`."""
    clock = SimpleNamespace(now=1000.0)
    monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=lambda: clock.now))
    return clock


class Counted:
    """A model whose steps take `seconds` of a test's clock and have the losses `values`, and then 1.

    Step `stop` is interrupted.
    """

    def __init__(self, values=(), clock=None, seconds=0, stop=None):
        self.module, self.values = torch.nn.Linear(1, 1), list(values)
        self.clock, self.seconds, self.stop, self.steps = clock or SimpleNamespace(now=0), seconds, stop, []

    def loss(self, step):
        self.clock.now += self.seconds
        if step == self.stop:
            raise KeyboardInterrupt
        self.steps.append(step)
        value = self.values.pop(0) if self.values else 1.0
        return value * (1 + 0 * self.module.weight.sum())

    def run(self, path, **schedule):
        state = TrainingState({"one": self.module}, [torch.optim.SGD(self.module.parameters(), lr=1.0)])
        given = Schedule(**{"images": None, "batch": 2, "rate": 1.0, "warmup": 1} | schedule)
        return state, training_loop(Run("tiny-sd", given, path), state, self.loss)


def test_a_run_by_the_clock_ends_when_its_minutes_are_over_and_counts_on_when_resumed(clock, tmp_path):
    path = tmp_path / "c.safetensors"
    with pytest.raises(KeyboardInterrupt):
        list(Counted(clock=clock, seconds=10, stop=2).run(path, minutes=1)[1])
    clock.now += 500  # of whatever lies between two runs
    second = Counted(clock=clock, seconds=10)
    state, loop = second.run(path, minutes=1)
    assert list(loop) == [6]
    assert (state.seconds, second.steps) == (60, [2, 3, 4, 5])


def test_the_clock_stands_still_while_results_are_written(clock, tmp_path):
    state, loop = Counted(clock=clock, seconds=50).run(tmp_path / "c.safetensors", minutes=5)
    saves = 0
    for _ in loop:
        clock.now += 1000
        saves += 1
    assert (state.step, state.seconds, saves) == (6, 300, 2)


def test_a_line_says_how_far_a_run_is(clock, tmp_path, capsys):
    list(Counted([2.0, 4.0], clock, seconds=8).run(tmp_path / "c.safetensors", images=6)[1])
    assert capsys.readouterr().err.splitlines() == [
        "tiny-sd: 4 images seen, 66.7%, 0 images/s, loss 3.0000",
        "tiny-sd: 6 images seen, 100.0%, 0 images/s, loss 2.3333",
    ]


@pytest.mark.parametrize("schedule", [{"images": 40}, {"images": 40, "milestones": (4,)}])
def test_a_loss_that_a_gpu_shows_late_is_never_saved(schedule, monkeypatch, tmp_path):
    monkeypatch.setattr(torch.Tensor, "is_cuda", True)  # no step looks at its own loss
    counted, path = Counted([1.0, float("nan"), 1.0]), tmp_path / "c.safetensors"
    with pytest.raises(FloatingPointError, match="the training loss became nan; resume with a lower --rate"):
        list(counted.run(path, **schedule)[1])
    assert not path.exists()


def test_weights_that_are_not_finite_are_never_saved(tmp_path):
    counted, path = Counted(), tmp_path / "c.safetensors"
    with torch.no_grad():
        counted.module.bias.fill_(float("inf"))
    with pytest.raises(FloatingPointError, match=r"^module\.one\.bias is no longer finite"):
        list(counted.run(path, images=2)[1])
    assert not path.exists()


def test_a_resumed_optimizer_keeps_its_state_in_the_order_of_the_weights(tmp_path):
    def run():
        conv = torch.nn.Conv2d(3, 4, 3).to(memory_format=torch.channels_last)
        return conv, TrainingState({"conv": conv}, [torch.optim.AdamW(conv.parameters(), fused=True)])

    conv, state = run()
    conv(torch.rand(1, 3, 5, 5)).sum().backward()
    state.optimizers[0].step()
    state.save(tmp_path / "c.safetensors")
    again, resumed = run()
    resumed.load(tmp_path / "c.safetensors")
    kept, before = (s.optimizers[0].state[c.weight]["exp_avg"] for s, c in ((resumed, again), (state, conv)))
    assert kept.stride() == again.weight.stride() == before.stride()
    assert torch.equal(kept, before)


def test_checkpoint_survives_a_failed_write(tmp_path, monkeypatch):
    module = torch.nn.Linear(2, 2)
    path = tmp_path / "c.safetensors"
    state = TrainingState({"module": module}, [torch.optim.AdamW(module.parameters())])
    state.save(path)
    before = path.read_bytes()
    monkeypatch.setattr(
        "tokenrank_guidance.files.writing.os.replace", lambda *_: (_ for _ in ()).throw(OSError)
    )
    with pytest.raises(OSError):  # noqa: PT011 - any will do
        state.save(path)
    assert path.read_bytes() == before


def test_rows_are_drawn_by_their_weights_and_never_twice():
    weights = torch.tensor([1.0, 2.0, 3.0, 4.0])
    draws = [draw_rows(weights, 2, step_generator(0, step)) for step in range(4000)]
    assert all(len(set(rows.tolist())) == 2 for rows in draws)
    first = torch.bincount(torch.stack([rows[0] for rows in draws]), minlength=4) / len(draws)
    assert torch.allclose(first, weights / 10, atol=0.03)


def test_schedule_rises_stays_and_falls():
    schedule = Schedule(images=1000, batch=10, rate=1.0, warmup=10, cooldown=0.25)
    factors = [schedule.factor(step) for step in range(100)]
    assert factors[0] == pytest.approx(0.1)
    assert factors[50] == 1.0
    assert factors[-1] == pytest.approx(1 / 25)


def test_a_schedule_by_the_clock_rises_by_steps_and_falls_by_time():
    schedule = Schedule(None, 10, 1.0, warmup=10, cooldown=0.35, minutes=10)
    assert schedule.factor(4, 300) == pytest.approx(0.5)
    assert schedule.factor(400, 389) == 1.0
    assert schedule.factor(400, 495) == pytest.approx(0.5)
    assert [schedule.part(10**6, seconds) >= 1 for seconds in (599, 600)] == [False, True]


@pytest.mark.parametrize("given", [{"images": None}, {"images": 8, "minutes": 1.0}, {"images": 3}])
def test_a_schedule_of_no_length_or_of_two_is_refused(given):
    with pytest.raises(ValueError, match="expected"):
        Schedule(batch=4, rate=1.0, **given)
