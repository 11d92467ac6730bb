"""The parts of the page, in their places; what they do is in `page`."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import gradio as gr
from PIL import Image

from diffseg.choices import ANCHOR_NAMES
from sag.kinds import NONE, TITLES
from tokenrank_guidance.app.examples import PICTURES, PROMPTS, example
from tokenrank_guidance.app.explorer import Settings
from tokenrank_guidance.app.scene import data_url
from tokenrank_guidance.app.state import MOST_BOUNCES, Source, State
from tokenrank_guidance.app.theme import CHOOSE, script

VIEW_NAMES = [
    ("Walk", "walk"),
    ("TokenRank", "tokenrank"),
    ("Heads", "heads"),
    ("Segments", "segments"),
    ("Words", "words"),
    ("Guidance", "guidance"),
]
GROUPS = {  # which views a group of controls belongs to
    "reading": ("walk", "tokenrank", "heads"),
    "walking": ("walk", "heads", "words"),
    "ranking": ("tokenrank",),
    "segmenting": ("segments",),
    "naming": ("words",),
    "guiding": ("guidance",),
}
KINDS = [(title, name) for name, title in TITLES.items() if name != NONE]
Part = Any  # Gradio's components have no common type that knows their events


@dataclass
class Parts:
    """Every component that an event reads or changes."""

    state: Part = None
    stage: Part = None
    view: Part = None
    model: Part = None
    prompt: Part = None
    prompts: Part = None
    seed: Part = None
    steps: Part = None
    cfg: Part = None
    draw: Part = None
    file: Part = None
    pictures: Part = None
    caption: Part = None
    timestep: Part = None
    read: Part = None
    cancel: Part = None
    reading: Part = None
    layer: Part = None
    heads: Part = None
    step: Part = None
    walking: Part = None
    direction: Part = None
    n: Part = None
    ranking: Part = None
    damping: Part = None
    segmenting: Part = None
    anchors: Part = None
    num_anchors: Part = None
    threshold: Part = None
    naming: Part = None
    words: Part = None
    guiding: Part = None
    arms: Part = None
    scale: Part = None
    pag_scale: Part = None
    python: Part = None
    command: Part = None
    link: Part = None
    png: Part = None
    page: Part = None
    saved: Part = None
    name: Part = None

    @property
    def outputs(self) -> list[Part]:
        """All that an event may change."""
        inputs = ("draw", "file", "read", "cancel", "png", "page", "saved", "prompts", "pictures")
        return [getattr(self, one.name) for one in fields(self) if one.name not in inputs]


def lay_out(settings: Settings, start: State) -> Parts:
    """Everything on the page, as it begins; inside a `gr.Blocks`."""
    parts, default = Parts(), State()
    parts.state, parts.name = gr.State(start), gr.State("")
    with gr.Row(elem_id="top"):
        gr.HTML("<h1>TokenRank explorer</h1><p>Attention is a Markov chain: walk through it.</p>")
    with gr.Row(equal_height=False):
        with gr.Column(scale=7, min_width=340, elem_id="hero"):
            parts.view = gr.Radio(
                VIEW_NAMES,
                value=start.view,
                show_label=False,
                container=False,
                elem_id="views",
                label="View",
            )
            parts.stage = gr.HTML(
                value="",
                html_template='<div class="tr-host"></div>',
                js_on_load=script(),
                apply_default_css=False,
                elem_id="stage",
            )
        with gr.Column(scale=4, min_width=320, elem_id="side"):
            _source(parts, settings, start.source)
            _reading(parts, default)
            _work(parts, default)
            _copy(parts)
    return parts


def _source(parts: Parts, settings: Settings, source: Source) -> None:
    parts.model = gr.Dropdown(
        list(settings.models),
        value=source.model if settings.free or source.model in settings.models else settings.models[0],
        label="Model",
        info="or type a folder, or OWNER/NAME on the Hub" if settings.free else None,
        allow_custom_value=settings.free,
        elem_id="model",
    )
    with gr.Tabs(elem_id="sources"):
        with gr.Tab("Draw a picture"):
            parts.prompt = gr.Textbox(source.prompt, label="Prompt", elem_id="prompt", max_length=2000)
            parts.prompts = _choices([one.removeprefix("a photo of a ") for one in PROMPTS], "Prompts")
            with gr.Row():
                parts.seed = gr.Number(source.seed, label="Seed", precision=0, minimum=0, min_width=80)
                parts.steps = gr.Number(
                    source.steps, label="Steps", precision=0, minimum=1, min_width=80, elem_id="steps"
                )
                parts.cfg = gr.Textbox(
                    cfg_text(source.cfg), label="CFG", placeholder="model's", min_width=80, max_lines=1
                )
            parts.draw = gr.Button("Draw", variant="primary", elem_id="draw")
        with gr.Tab("Give a picture"):
            parts.file = gr.File(label="Picture", type="filepath", height=110, elem_id="file")
            parts.pictures = _choices([_thumbnail(name) for name in PICTURES], "Examples")
            parts.caption = gr.Textbox(
                source.caption, label="Caption", info="optional; read beside the picture"
            )
            parts.timestep = gr.Slider(0, 999, source.timestep, step=1, label="Timestep of 1000")
            parts.read = gr.Button("Read", variant="primary", elem_id="read")
    parts.cancel = gr.Button("Cancel", size="sm", elem_id="cancel")


def _reading(parts: Parts, default: State) -> None:
    with gr.Group() as parts.reading:
        parts.layer = gr.Dropdown(["auto"], value="auto", label="Layer", elem_id="layer")
        parts.heads = gr.Dropdown(
            [("weighted by λ2", "lambda2"), ("mean", "mean")], value="lambda2", label="Heads"
        )
        parts.step = gr.Slider(1, 24, 12, step=1, label="Step of drawing", elem_id="step")
    with gr.Group() as parts.walking:
        parts.direction = gr.Radio(
            [("where it attends", "outgoing"), ("who attends to it", "incoming")],
            value=default.direction,
            label="Direction",
            elem_id="direction",
        )
        parts.n = gr.Slider(1, MOST_BOUNCES, default.n, step=1, label="Bounces", elem_id="n", visible=False)
    with gr.Group(visible=False) as parts.ranking:
        parts.damping = gr.Slider(0.5, 0.999, default.damping, step=0.001, label="Damping", elem_id="damping")


def _work(parts: Parts, default: State) -> None:
    with gr.Group(visible=False) as parts.segmenting:
        parts.anchors = gr.Dropdown(list(ANCHOR_NAMES), value=default.anchors, label="Anchors")
        parts.num_anchors = gr.Number(default.num_anchors, label="How many anchors", precision=0, minimum=1)
        parts.threshold = gr.Textbox(
            default.threshold, label="Threshold τ", info="auto, or a number of nats", elem_id="threshold"
        )
    with gr.Group(visible=False) as parts.naming:
        parts.words = gr.Textbox(
            "", label="Words", info="separated by commas; Enter to find", elem_id="words"
        )
    with gr.Group(visible=False) as parts.guiding:
        parts.arms = gr.CheckboxGroup(KINDS, value=list(default.arms), label="Kinds of guidance")
        parts.scale = gr.Slider(0, 3, default.scale, step=0.05, label="Scale")
        parts.pag_scale = gr.Slider(0, 10, default.pag_scale, step=0.1, label="Scale of PAG", visible=False)


def _copy(parts: Parts) -> None:
    with gr.Accordion("Take it with you", open=False, elem_id="copy"):
        with gr.Row():
            parts.png = gr.Button("PNG", size="sm", elem_id="png")
            parts.page = gr.Button("HTML file", size="sm", elem_id="html")
        parts.link = gr.Textbox(
            "", label="Link", interactive=False, buttons=["copy"], elem_id="link", max_lines=2
        )
        parts.python = _code("Copy as Python", "python", 24)
        parts.command = _code("Copy as command", "command", 8)
    parts.saved = gr.Textbox("", visible="hidden", elem_id="hidden-file", label="file")


def cfg_text(cfg: float | None) -> str:
    """As it is typed."""
    return "" if cfg is None else f"{cfg}".removesuffix(".0")


def _choices(shown: list[str], name: str) -> Part:
    """A button for each; `choose` tells its index."""
    buttons = "".join(f'<button type="button">{one}</button>' for one in shown)
    return gr.HTML(
        value="",
        html_template=f'<div class="choices" role="group" aria-label="{name}">{buttons}</div>',
        js_on_load=CHOOSE,
        apply_default_css=False,
        padding=False,
    )


def _thumbnail(name: str) -> str:
    with Image.open(example(name)) as picture:
        picture.thumbnail((144, 96))
        return f'<img src="{data_url(picture)}" alt="{example(name).stem}">'


def _code(label: str, name: str, most: int) -> Part:
    """Lines to copy: an editor would be a third of all that the page loads."""
    return gr.Textbox(
        "",
        label=label,
        interactive=False,
        buttons=["copy"],
        elem_id=name,
        elem_classes="code",
        max_lines=most,
    )
