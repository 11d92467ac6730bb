"""What is on the screen as a program, which comes to the same numbers."""

from __future__ import annotations

from typing import Any

import torch

from sag.kinds import PAG
from tokenrank_guidance.app.chains import places_of
from tokenrank_guidance.app.passes import Captured, drawing_arguments
from tokenrank_guidance.app.segments import segment_changes, word_options, word_request
from tokenrank_guidance.app.state import State
from tokenrank_guidance.tiny.loader import available_models

PICTURE = "picture.png"  # what a given picture is called where its own name is not known


def python_of(captured: Captured, state: State, name: str = PICTURE) -> str:
    """A program whose last lines make what the state shows; a given picture is the file `name`."""
    bodies = {
        "walk": _walk,
        "tokenrank": _rank,
        "heads": _heads,
        "segments": _segments,
        "words": _words,
        "guidance": _guidance,
    }
    lines = [*_opening(captured, name), *bodies[state.view](captured, state)]
    used = [line for line, word in IMPORTS if any(_uses(text, word) for text in lines)]
    return "\n".join([*used, "", *lines]) + "\n"


IMPORTS = (
    ("from pathlib import Path", "Path("),
    ("", "-"),
    ("import torch", "torch."),
    ("from transformers import AutoImageProcessor, AutoModel", "AutoModel."),
    ("from diffseg import DiffSeg", "DiffSeg."),
    ("from diffseg import Settings", "Settings("),
    ("from diffseg import segment_records", "segment_records("),
    ("from diffseg.passes.denoise import denoiser_pass", "denoiser_pass("),
    ("from diffseg.passes.images import read_images", "read_images("),
    ("from diffseg.zero_shot import Generate", "Generate("),
    ("from diffseg.zero_shot import segment", " segment("),
    ("from sag import SelfAttentionGuidance", "SelfAttentionGuidance("),
    ("from sag.perturbed import perturbed", "perturbed("),
    ("from tokenrank_guidance import capture", "capture("),
    ("from tokenrank_guidance import multi_bounce", "multi_bounce("),
    ("from tokenrank_guidance import tokenrank", " tokenrank("),
    ("from tokenrank_guidance.files.pictures import open_picture", "open_picture("),
    ("from tokenrank_guidance.files.pictures import to_rgb", "to_rgb("),
    ("from tokenrank_guidance.files.pretrained import load_timm", "load_timm("),
    ("from tokenrank_guidance.markov import stationary_distribution", "stationary_distribution("),
    ("from tokenrank_guidance.markov.heads import rough_second_eigenvalue", "rough_second_eigenvalue("),
    ("from tokenrank_guidance.pipelines import load_model", "load_model("),
    ("from tokenrank_guidance.tiny import load_pipeline", "load_pipeline("),
)


def _uses(text: str, word: str) -> bool:
    return word in f" {text}" and word != "-"


def _opening(captured: Captured, name: str) -> list[str]:
    """The model, and the picture that is given."""
    opened, source = captured.opened, captured.source
    picture = [] if source.drawn else [f"image = open_picture(Path({name!r}))"]
    if opened.model is None:
        return [*_vision(captured), *picture]
    dtype, device = opened.pipe.dtype, str(opened.pipe.device)
    load = f"load_model({opened.name!r}, {device!r}, {dtype}).pipe"
    if opened.name in available_models() and dtype == torch.float32 and device == "cpu":
        load = f"load_pipeline({opened.name!r})"
    drawn = ["", *_drawing(captured)] if source.drawn else []
    return [f"pipe = {load}", *picture, *drawn]


def _vision(captured: Captured) -> list[str]:
    name = captured.opened.name
    if captured.opened.timm:
        return [
            "import timm.data",
            "",
            f"model = load_timm({name!r}).eval()",
            "transform = timm.data.create_transform(**timm.data.resolve_model_data_config(model))",
        ]
    return [
        f"model = AutoModel.from_pretrained({name!r}).eval()",
        f"processor = AutoImageProcessor.from_pretrained({name!r}, use_fast=False)",
    ]


def _drawing(captured: Captured) -> list[str]:
    arguments = drawing_arguments(captured.opened, captured.source)
    seed = captured.source.seed
    arguments["generator"] = f"[torch.Generator().manual_seed({seed})]"
    given = [f"        {name}={_written(name, value)}," for name, value in arguments.items()]
    return [
        "def draw(pipe, **more):",
        f"    torch.manual_seed({seed})",
        "    return pipe(",
        *given,
        "        **more,",
        "    ).images[0]",
        "",
    ]


def _written(name: str, value: Any) -> str:
    return value if name == "generator" else repr(value)


def _network(captured: Captured) -> str:
    opened = captured.opened
    if opened.model is None:
        return "model.vision_model" if opened.tower else "model"
    return "pipe.unet" if getattr(opened.pipe, "unet", None) is opened.network else "pipe.transformer"


def _reading(captured: Captured, layers: str) -> list[str]:
    """The pass itself, under a capture of `layers`."""
    opened, source = captured.opened, captured.source
    network = _network(captured)
    if source.drawn:
        inside = "image = draw(pipe)"
    elif opened.model is not None:
        settings = f"Settings(timestep={source.timestep})"
        inside = f"denoiser_pass(pipe, read_images(image)[0][0], {settings}, {source.caption!r})"
    elif opened.timm:
        inside = f"{network}(transform(to_rgb(image))[None])"
    else:
        inside = f'{network}(**processor(images=to_rgb(image), return_tensors="pt"))'
    return [f"with torch.no_grad(), capture({network}, {layers}, keep=None) as maps:", f"    {inside}"]


def _record(captured: Captured, state: State) -> list[str]:
    layer = captured.auto if state.layer == "auto" else state.layer
    call = captured.calls[captured.step(state.step)]
    note = f"  # step {captured.step(state.step) + 1}, under the prompt" if captured.source.drawn else ""
    return [*_reading(captured, repr(layer)), f"record = maps[{call}].select(-1){note}"]


def _weights(captured: Captured, state: State) -> str:
    if state.head is None:
        return repr("lambda2" if state.heads == "lambda2" else "mean")
    heads = captured.record(state.step, state.layer).heads
    return f"torch.eye({heads})[{state.head}]"


def _walk(captured: Captured, state: State) -> list[str]:
    token = places_of(captured, state)[0]
    asked = f"n={state.n}, direction={state.direction!r}, head_weights={_weights(captured, state)}"
    return [
        *_record(captured, state),
        f"walk = multi_bounce(record, {token}, {asked})[0]",
        "heat = walk[record.image].unflatten(0, record.grid)",
    ]


def _rank(captured: Captured, state: State) -> list[str]:
    lines = _record(captured, state)
    start = ""
    if state.region:
        count = captured.record(state.step, state.layer).restrict("image").tokens
        lines += [f"region = torch.zeros({count})", f"region[{list(state.region)}] = 1"]
        start = ", personalization=region"
    weights = _weights(captured, state)
    return [
        *lines,
        'image_tokens = record.restrict("image")',
        f"rank = tokenrank(image_tokens, damping={state.damping!r}, head_weights={weights}{start})[0]",
        "heat = (len(rank) * rank).unflatten(0, record.grid)  # mean 1",
    ]


def _heads(captured: Captured, state: State) -> list[str]:
    count, call = len(captured.layers), captured.calls[captured.step(state.step)]
    lines = [
        *_reading(captured, repr(captured.layers)),
        f"records = [record.select(-1) for record in maps[{call * count}:{(call + 1) * count}]]",
        "lambda2 = [rough_second_eigenvalue(record)[0] for record in records]",
    ]
    if state.token is None:
        return [
            *lines,
            "images = [record.restrict('image') for record in records]",
            f"ranks = [stationary_distribution(image, damping={state.damping!r}) for image in images]",
            "heats = [rank.value[0] for rank in ranks]",
        ]
    tokens = places_of(captured, state)[1]
    return [
        *lines,
        f"tokens = {tokens}  # one place, in each layer",
        f"walks = [multi_bounce(record, token, {state.n}, {state.direction!r})[0] "
        "for record, token in zip(records, tokens)]",
        "heats = [walk[:, record.image] for record, walk in zip(records, walks)]",
    ]


def _segments(captured: Captured, state: State) -> list[str]:
    changes = "".join(f", {name}={value!r}" for name, value in segment_changes(captured, state).items())
    drawn = ["image = draw(pipe)"] if captured.source.drawn else []
    if captured.opened.model is not None:
        return [*drawn, f"segments = DiffSeg.from_pipe(pipe{changes})(image)", "labels = segments.labels"]
    size = captured.picture.size[::-1]
    return [
        *_reading(captured, repr(captured.layers)),
        f"segments = segment_records(maps, {size}, Settings({changes.removeprefix(', ')}))[0]",
        "labels = segments.labels",
    ]


def _words(captured: Captured, state: State) -> list[str]:
    options = word_options(captured, state)
    names = ("n", "head_weights", "resolution")
    asked = ", ".join(f"{name}={getattr(options, name)!r}" for name in names)
    caption = (
        f", {captured.source.caption!r}" if captured.source.caption and not captured.source.drawn else ""
    )
    drawn = [f"image = {word_request(captured)}"] if captured.source.drawn else []
    return [
        *drawn,
        f"words = segment(pipe, image, {state.concepts!r}{caption}, {asked})",
        "heats, masks = words.heats, words.masks",
    ]


def _guidance(captured: Captured, state: State) -> list[str]:
    return [
        'images, steps = {"none": draw(pipe)}, {}',
        *(line for arm in state.arms for line in _guided(arm, state)),
    ]


def _guided(arm: str, state: State) -> list[str]:
    if arm == PAG:
        return [f'images["pag"] = draw(perturbed(pipe), pag_scale={state.pag_scale!r})']
    return [
        f"with SelfAttentionGuidance(scorer={arm!r}, sag_scale={state.scale!r})(pipe) as guidance:",
        f'    images["{arm}"] = draw(pipe)',
        f'steps["{arm}"] = guidance.steps',
    ]
