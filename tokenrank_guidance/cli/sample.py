"""`tokenrank sample`: draw images with and without guidance, and compare."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Mapping, Sequence
from pathlib import Path

from PIL import Image

from sag.guidance import SelfAttentionGuidance
from sag.kinds import TITLES
from tokenrank_guidance.calls import Job, Sampling, jobs_for
from tokenrank_guidance.cli.arms import Arm, Study
from tokenrank_guidance.cli.comparison import Comparison
from tokenrank_guidance.cli.sample_options import COMPARED, images_of_each, one_picture, settings_of
from tokenrank_guidance.cli.sample_report import sample_report
from tokenrank_guidance.drawing import labelled_sheet
from tokenrank_guidance.files.writing import staged, staged_file, write_result
from tokenrank_guidance.messages import counted, say
from tokenrank_guidance.pipelines import Model, open_model
from tokenrank_guidance.report import Json

EMBEDDED_PROMPTS = tuple(f"a photo of a {label}" for label in ("church", "boat", "flower", "motorbike"))
COMPARISON = "comparison.png"


def run(arguments: Namespace) -> Json:
    """Draw the images, write them and the result to `--out`, and return that result.

    What can be found wrong beforehand is raised, the output proved writable, before the first image is drawn.
    """
    arms = ("none", *COMPARED) if arguments.compare else (arguments.guidance or "tokenrank",)
    guidance, single = SelfAttentionGuidance(**vars(settings_of(arguments))), one_picture(arguments)
    folder = arguments.out.parent if single else arguments.out
    with staged_file(arguments.out) if single else staged(folder) as scratch:
        model = open_model(arguments)
        study = _study(arguments, model, guidance, single)
        study.check(arms)
        names = {arm: _names(arguments.out.name if single else None, arm, len(study.jobs)) for arm in arms}
        drawn = {arm: _draw(study, arm, scratch, names[arm]) for arm in arms}
        sheets = {} if single else _sheets(study, drawn, model.name)
        for name, picture in sheets.items():
            picture.save(scratch / name, "PNG", optimize=True)
        files = {arm: [str(folder / name) for name in names[arm]] for arm in arms}
        result = sample_report(arguments, model, study, drawn, files)
        pictures = [*sheets, *(name for arm in arms for name in names[arm])]
        result["files"] = [str(folder / name) for name in pictures]
        if not single:
            write_result(scratch, result)
    say(f"picture: {folder / pictures[0]}")
    return result


def _study(arguments: Namespace, model: Model, guidance: SelfAttentionGuidance, single: bool) -> Study:
    cfg = model.cfg(arguments.cfg)
    sampling = Sampling(arguments.steps, cfg, arguments.negative_prompt, arguments.height, arguments.width)
    prompts = arguments.prompt or (EMBEDDED_PROMPTS[: 1 if single else None] if model.embedded else ())
    each = images_of_each(arguments, len(set(prompts)))
    jobs = jobs_for(model.pipe, prompts, each, arguments.seed)
    return Study(model.pipe, sampling, guidance, jobs, arguments.batch_size)


def _draw(study: Study, name: str, folder: Path, files: Sequence[str]) -> Arm:
    """Draw an arm's images, each written as soon as it is drawn."""
    arm = study.draw(name, lambda i, image: image.save(folder / files[i], "PNG", optimize=True))
    overlap = "" if arm.overlap is None else f", overlap with the other masks {arm.overlap.mean():.2f}"
    say(f"{name}: {counted(len(arm.images), 'image')} in {arm.seconds:.1f} s{overlap}")
    return arm


def _names(single: str | None, arm: str, count: int) -> list[str]:
    return [f"{arm}-{i:03d}.png" for i in range(count)] if single is None else [single]


def _sheets(study: Study, drawn: Mapping[str, Arm], model: str) -> dict[str, Image.Image]:
    """What a folder has beside the images, under its file's name, the one to look at first."""
    compared = Comparison(drawn, study.jobs, _caption(study, model)).picture() if len(drawn) > 1 else None
    sheets = {f"{name}.png": _sheet(study, arm, f"{TITLES[name]}: {model}") for name, arm in drawn.items()}
    return ({} if compared is None else {COMPARISON: compared}) | sheets


def _sheet(study: Study, arm: Arm, title: str) -> Image.Image:
    """A row for each prompt, which stands above it with its seeds."""
    each = study.per_prompt
    lines = [_line(study.jobs[i : i + each]) for i in range(0, len(study.jobs), each)]
    return labelled_sheet(arm.images, each, title, lines)


def _line(jobs: Sequence[Job]) -> str:
    first, last = jobs[0], jobs[-1]
    seeds = f"seed {first.seed}" if len(jobs) == 1 else f"seeds {first.seed} to {last.seed}"
    return seeds if first.prompt is None else f"{first.prompt}  ·  {seeds}"


def _caption(study: Study, model: str) -> str:
    sampling, scheduler = study.sampling, type(study.pipe.scheduler).__name__
    cfg = "" if sampling.cfg is None else f"classifier-free guidance {sampling.cfg:g} in every column, "
    drawn_by = Path(model).resolve().name if Path(model).is_dir() else model
    return (
        f"drawn by {drawn_by}, {sampling.steps} steps of {scheduler}, {cfg}"
        f"guidance scale {study.guidance.sag_scale:g}, contrast kept {study.guidance.keep_contrast:g}, "
        f"{study.guidance.mask} masks at threshold {study.guidance.threshold:g}."
    )
