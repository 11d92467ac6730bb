"""`python -m eval.generate`: finds what is missing, draws it, says what it cost."""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from accelerate import PartialState
from tqdm import tqdm

from eval.generate.arms import Arm
from eval.generate.draw import Drawing
from eval.generate.options import parse
from eval.generate.store import ArmStore, micro_batches
from eval.generate.task import Task, open_task
from eval.metrics.interval import bootstrap_mean
from eval.processes import agreed, join_processes
from eval.report import provenance
from tokenrank_guidance.messages import say
from tokenrank_guidance.provenance import command, commit
from tokenrank_guidance.report import Json, emit


def main(argv: Sequence[str]) -> None:
    """Draw what the arguments ask for, and emit what it cost."""
    arguments = parse(argv)
    state = join_processes(arguments.device)
    report = generate(arguments, state)
    if state.is_main_process:
        emit(report, arguments.out)


@dataclass(frozen=True)
class _Run:
    """One process's part in drawing `n` images from `seed` on, in micro-batches."""

    state: PartialState
    task: Task
    batches: Sequence[range]
    n: int
    seed: int

    def arm(self, drawing: Drawing, store: ArmStore) -> Json:
        """Draw an arm's missing images and, once all processes have, write its manifest."""
        missing, lost = self._agreed(store)
        with self.state.split_between_processes(missing) as own:
            self._draw(drawing, store, list(own), lost)  # pyright: ignore[reportArgumentType]
        self.state.wait_for_everyone()
        if not self.state.is_main_process:
            return {}
        row = _row(drawing.arm, store, self.batches, self.n)
        run = {"command": command(), "commit": commit()}
        entries = {"seed": self.seed, **self.task.prompts.to_json(), "cost": row["cost"], **run}
        store.write_manifest(drawing.arm.text, self.n, entries)
        return row

    def _agreed(self, store: ArmStore) -> tuple[list[range], dict[int, Json]]:
        """Micro-batches to draw, and the records of those drawn before, seen before any process draws."""

        def look() -> tuple[list[range], dict[int, Json]]:
            missing = store.missing(self.batches, self.n)
            starts = {batch.start for batch in missing}
            return missing, {start: one for start, one in store.journals.records().items() if start in starts}

        return agreed(self.state, look)

    def _draw(
        self, drawing: Drawing, store: ArmStore, batches: Sequence[range], lost: Mapping[int, Json]
    ) -> None:
        state = self.state
        part = f" ({state.process_index + 1} of {state.num_processes})" if state.num_processes > 1 else ""
        total = sum(len(batch) for batch in batches)
        bar = tqdm(total=total, desc=f"{drawing.arm.text}{part}", unit="image", file=sys.stderr)
        with bar, store.journals.of(state.process_index) as journal:
            for batch in batches:
                drawn = drawing(self.task.prompts.jobs(batch, self.seed))
                store.add(journal, batch, self.n, drawn, lost)
                bar.update(len(batch))


def generate(arguments: Namespace, state: PartialState, task: Task | None = None) -> Json:
    """Draw every arm's images that are not there yet; the report is only the main process's to write.

    `task`: what `arguments` name, opened before. Everything is checked before the first image is drawn.
    """
    task = task or open_task(arguments, state)
    batches = micro_batches(arguments.n, arguments.batch_size)
    run = _Run(state, task, batches, arguments.n, arguments.seed)
    drawings = task.drawings(arguments.arms)
    stores = {arm: task.store(arm, arguments.out, arguments.format) for arm in drawings}
    agreed(state, lambda: [store.check() for store in stores.values()])
    rows = [run.arm(drawing, stores[arm]) for arm, drawing in drawings.items()]
    config = vars(arguments) | task.settings | {"arms": [arm.text for arm in arguments.arms]}
    return provenance(config, arguments.seed, arguments.n) | {"results": rows}


def _row(arm: Arm, store: ArmStore, batches: Sequence[range], n: int) -> Json:
    done = store.journals.records()
    records = [done[batch.start] for batch in batches]
    seconds = bootstrap_mean(np.array([record["seconds"] / len(record["bytes"]) for record in records]))
    say(f"{arm.text}: {n} images in {store.folder}, {seconds.value:.3g} s each")
    cost = {
        "denoiser_calls": float(np.mean([record["calls"] for record in records])),
        "denoiser_evaluations": float(np.mean([record["evaluations"] for record in records])),
        "seconds_per_image": seconds.to_json(),
    }
    return {"arm": arm.text, "folder": str(store.folder), "n": n, "cost": cost}
