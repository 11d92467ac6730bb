"""`tokenrank explain`: where a diffusion model's attention leads from a word, bounce by bounce.

Of a model that draws videos, without words, what their tokens are worth.
"""

from __future__ import annotations

import time
from argparse import Namespace
from dataclasses import replace
from pathlib import Path
from typing import Any

from PIL import Image

from diffseg.passes.images import Rgb, read_images
from diffseg.words import caption_of
from diffseg.zero_shot import Generate, Options, WordSegmentation, heat_maps
from diffseg.zero_shot.layers import is_joint
from diffseg.zero_shot.options import make_options
from tokenrank_guidance.cli.explain_clip import clip_strip, frame_sheet, mask_sheets, shown
from tokenrank_guidance.cli.explain_options import BOUNCES, CHANGES, STEPS
from tokenrank_guidance.cli.explain_strip import Column, mask_image, strip
from tokenrank_guidance.cli.explain_video import draws_videos, explain_video
from tokenrank_guidance.families.registry import words_of
from tokenrank_guidance.files.pictures import open_picture
from tokenrank_guidance.files.writing import staged, write_result
from tokenrank_guidance.messages import counted, say
from tokenrank_guidance.option_groups import refuse_without_effect
from tokenrank_guidance.pipelines import Model, open_model
from tokenrank_guidance.report import Json, versions

STRIP, DRAWN, MASK = "explain.png", "image.png", "mask-{:02d}.png"
WITHIN = "within the image"
MEANING = f"{WITHIN.capitalize()}: from those who attend to the word on to those who attend to them."
EMBEDDED_RESOLUTION = 128  # 16×16 tokens, the embedded models' own size


def run(arguments: Namespace) -> Json:
    """Write the strip, the masks of words and the result to `--out`, return the result."""
    picture = None if arguments.image is None else open_picture(arguments.image)
    with staged(arguments.out) as scratch:
        model = open_model(arguments)
        video = draws_videos(model.pipe)
        if video and picture is not None:
            name = type(model.pipe).__name__
            raise ValueError(f"{name} draws videos and reads no picture; give a --prompt")
        if video and arguments.concepts is None:
            result = explain_video(arguments, model, scratch)
        else:
            result = _of_words(arguments, model, picture, scratch)
        write_result(scratch, result)
    say(f"picture: {arguments.out / STRIP}")
    return result


def _of_words(arguments: Namespace, model: Model, picture: Image.Image | None, scratch: Path) -> Json:
    """Walk from each word of a picture or a video."""
    _check_words(arguments, model)
    options = _options(arguments, model)
    columns = columns_of(model.pipe, options, arguments.bounces or list(BOUNCES))
    start = time.perf_counter()
    target = _request(arguments, model) if picture is None else read_images(picture)[0][0]
    maps = _found(model, target, arguments, columns, options)
    seconds = time.perf_counter() - start
    texts = (f"{counted(options.n, 'bounce')}, > its mean", *_captions(arguments, model, options))
    files = _write(scratch, picture, columns, maps, texts)
    return _report(arguments, model, options, maps[-1], files) | {"seconds": round(seconds, 3)}


def _check_words(arguments: Namespace, model: Model) -> None:
    if arguments.concepts is None:
        raise ValueError(f"{model.name} draws pictures: give --concepts, the words where walks start")
    if not draws_videos(model.pipe):
        refuse_without_effect(arguments, ("frames",), f"{model.name} draws pictures, not videos")


def columns_of(pipe: Any, options: Options, bounces: list[int]) -> list[Column]:
    """One step either way with the heads' plain mean, the bounces, and the limit of outgoing ones."""
    column = replace(options, method="column", direction="outgoing", head_weights="mean")
    first = [Column("column select", "who attends to it", column)]
    if is_joint(pipe) and words_of(pipe).sees_image:
        first.insert(0, Column("row select", "where it attends", replace(column, method="row")))
    walks = [
        Column(counted(n, "bounce"), _note(options), replace(options, n=n)) for n in dict.fromkeys(bounces)
    ]
    limit = Column("TokenRank", "limit, outgoing", replace(options, method="tokenrank", direction="outgoing"))
    return [*first, *walks, *([limit] if words_of(pipe).sees_image else [])]


def _note(options: Options) -> str:
    where = options.direction if options.method == "bounce" else WITHIN
    return f"{where}{', λ2' if options.head_weights == 'lambda2' else ''}"


def _options(arguments: Namespace, model: Model) -> Options:
    """Those that were asked for."""
    changes = {name: getattr(arguments, name) for name in CHANGES if getattr(arguments, name) is not None}
    if arguments.timesteps is not None:
        changes["timesteps"] = arguments.timesteps
    if arguments.layers is not None:
        changes["layers"] = arguments.layers[0] if len(arguments.layers) == 1 else arguments.layers
    if model.embedded:
        changes.setdefault("resolution", EMBEDDED_RESOLUTION)
    return make_options(changes)


def _request(arguments: Namespace, model: Model) -> Generate:
    cfg = model.cfg(arguments.cfg)
    seed, negative = arguments.seed or 0, arguments.negative_prompt
    size = {name: getattr(arguments, name) for name in ("height", "width", "frames")}
    return Generate(arguments.prompt, arguments.steps or STEPS, seed, cfg, negative, **size)


def _found(
    model: Model, target: Rgb | Generate, arguments: Namespace, columns: list[Column], options: Options
) -> list[WordSegmentation]:
    """Each column's maps, and last those of the mask."""
    asked = [*(column.options for column in columns), options]
    return heat_maps(model.pipe, target, arguments.concepts, asked, arguments.caption)


def _write(
    folder: Path,
    picture: Image.Image | None,
    columns: list[Column],
    maps: list[WordSegmentation],
    texts: tuple[str, ...],
) -> list[str]:
    """Write the pictures, return their names."""
    found = maps[-1]
    if found.frames:
        sheet, drawn, masks = clip_strip(columns, maps, texts), frame_sheet(found), mask_sheets(found)
    else:
        image, drawn = picture or found.image, found.image
        sheet, masks = strip(image, columns, maps, texts), [mask_image(mask) for mask in found.masks]
    named = {STRIP: sheet} | ({} if drawn is None else {DRAWN: drawn})
    named |= {MASK.format(i): mask for i, mask in enumerate(masks)}
    for name, one in named.items():
        one.save(folder / name, "PNG", optimize=True)
    return list(named)


def _captions(arguments: Namespace, model: Model, options: Options) -> list[str]:
    """What was read, and what the bounces are where their names do not say it."""
    return [_read(arguments, model, options), *([MEANING] if options.method == "image-bounce" else [])]


def _read(arguments: Namespace, model: Model, options: Options) -> str:
    if arguments.prompt is not None:
        return (
            f"{model.name}, drawn under {arguments.prompt!r}: the mean over {arguments.steps or STEPS} steps."
        )
    text = caption_of(arguments.concepts) if arguments.caption is None else arguments.caption
    times = ", ".join(map(str, options.timesteps))
    return (
        f"{model.name}, read under {text!r} at timestep {times}, {counted(options.draws, 'draw')} of noise."
    )


def _report(
    arguments: Namespace, model: Model, options: Options, mask: WordSegmentation, files: list[str]
) -> Json:
    given = {name: value for name, value in vars(arguments).items() if name != "command"}
    paths = {"image": None if arguments.image is None else str(arguments.image), "out": str(arguments.out)}
    resolved = {"model": model.name, "device": str(model.pipe.device), "settings": vars(options)}
    height, width = mask.size[-2:]
    frames = {"frames": list(shown(mask).values())} if mask.frames else {}
    return {
        "command": arguments.command,
        "config": given | paths | resolved,
        "seed": options.seed,
        "n": 1,
        "versions": versions(),
        "width": width,
        "height": height,
        "grid": list(mask.heats.shape[1:]),
        **frames,
        "concepts": _concepts(mask, [name for name in files if name.startswith("mask")]),
        "files": [str(arguments.out / name) for name in files],
    }


def _concepts(mask: WordSegmentation, files: list[str]) -> list[Json]:
    """Each word, its mask's file and the share of the picture, or of all frames, under it."""
    shares = (mask.masks.flatten(1).count_nonzero(1).cpu().double() / mask.masks[0].numel()).tolist()
    rows = zip(mask.concepts, files, shares, strict=True)
    return [{"concept": concept, "mask": name, "share": share} for concept, name, share in rows]
