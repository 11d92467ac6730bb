"""A scene as one picture, in the page's colours."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib
import numpy as np
from PIL import Image, ImageDraw

from tokenrank_guidance.app.scene import Heat, Scene
from tokenrank_guidance.drawing import GREY, INK, fitted, font

MAP = 0.62  # how much of a pixel is the map, the rest being the picture in grey
SIDE, SMALL, GAP, MARGIN, HEAD, LINE, BAR = 512, 128, 16, 24, 62, 16, 34
MARK, REGION = (92, 242, 255), 0.4
Panel = tuple[str, Image.Image]


def picture_of(scene: Scene) -> Image.Image:
    """Title, facts, the view's panels in rows, and the scale of their colours."""
    panels, columns = _panels(scene)
    height, width = panels[0][1].height, max(panels[0][1].width, SMALL)
    rows = -(-len(panels) // columns)
    inner = max(columns * (width + GAP) - GAP, 420)
    label = 6 + LINE * (1 + panels[0][0].count("\n")) if len(panels) > 1 else 0
    facts = _lines(scene.facts, inner)
    head = HEAD + (len(facts) - 1) * LINE
    size = (inner + 2 * MARGIN, head + rows * (height + label + GAP) + BAR + MARGIN)
    canvas = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(canvas)
    draw.text((MARGIN, 14), _title(scene), INK, font(18, "bold"))
    for i, line in enumerate(facts):
        draw.text((MARGIN, 39 + i * LINE), line, GREY, font(12))
    for i, (name, panel) in enumerate(panels):
        x = MARGIN + i % columns * (width + GAP)
        y = head + i // columns * (height + label + GAP)
        canvas.paste(panel, (x, y))
        if label:
            lines = [_cut(line, width) for line in name.split("\n")]
            draw.text((x, y + height + 3), "\n".join(lines), GREY, font(11))
    _scale(canvas, scene, (MARGIN, size[1] - BAR - 8, inner))
    return canvas


def blended(scene: Scene, heat: Heat, size: tuple[int, int]) -> Image.Image:
    """A map over the picture in grey; a token stays a rectangle of one colour."""
    x = (heat.values - heat.low) / (heat.high - heat.low)
    colours = np.ascontiguousarray(coloured("magma", x))
    over = np.asarray(Image.fromarray(colours).resize(size, Image.Resampling.NEAREST), np.float32)
    grey = np.asarray(fitted(scene.picture, size).convert("L"), np.float32)[..., None]
    mixed = Image.fromarray((MAP * over + (1 - MAP) * grey).round().astype(np.uint8))
    return _marked(scene, mixed)


def coloured(name: str, values: np.ndarray) -> np.ndarray:
    """Values in [0, 1], clipped, as RGB."""
    found = matplotlib.colormaps[name](np.clip(np.floor(256 * values), 0, 255).astype(int), bytes=True)
    return found[..., :3]


def _panels(scene: Scene) -> tuple[list[Panel], int]:
    ratio = scene.picture.width / scene.picture.height
    size = (SIDE, round(SIDE / ratio)) if ratio >= 1 else (round(SIDE * ratio), SIDE)
    if scene.view == "heads":
        small = (max(1, size[0] * SMALL // SIDE), max(1, size[1] * SMALL // SIDE))
        tiles = [
            (f"{_short(tile.layer)}\nhead {tile.head} · λ2 {tile.lambda2:.3f}", _tile(tile.heat, small))
            for tile in scene.tiles
        ]
        return tiles, min(6, len(tiles))
    if scene.view in ("walk", "tokenrank"):
        return [("", blended(scene, scene.heats[scene.shown], size))], 1
    plain = fitted(scene.picture, size)
    if scene.view == "guidance":
        images = [
            (name.replace("difference:", "difference to "), image) for name, image in scene.images.items()
        ]
        return [(name, fitted(image, size)) for name, image in images], 1 + (len(images) - 1) // 2
    (layer,) = scene.images.values()
    over = layer.resize(size, Image.Resampling.NEAREST)
    mixed = Image.alpha_composite(plain.convert("L").convert("RGBA"), over).convert("RGB")
    named = "anchors and TokenRank" if scene.view == "segments" else ""
    maps = [(named or heat.name, blended(scene, heat, size)) for heat in scene.heats]
    return [("picture", plain), (scene.title, mixed), *maps], min(3, 2 + len(maps))


def _short(layer: str) -> str:
    """A layer's name as the page has it in little room (stage.js)."""
    name = layer.replace("transformer_blocks", "block").replace("attentions.", "").replace(".attn1", "")
    name = name.removesuffix(".block.0").replace(".attention.attention", "")
    return name.replace("encoder.layer", "layer")


def _tile(heat: Heat, size: tuple[int, int]) -> Image.Image:
    colours = coloured("magma", (heat.values - heat.low) / (heat.high - heat.low))
    return Image.fromarray(np.ascontiguousarray(colours)).resize(size, Image.Resampling.NEAREST)


def _marked(scene: Scene, image: Image.Image) -> Image.Image:
    draw = ImageDraw.Draw(image, "RGBA")
    rows, columns = scene.grid
    across, down = image.width / columns, image.height / rows

    def cell(index: int) -> tuple[float, float, float, float]:
        x, y = index % columns * across, index // columns * down
        return (x, y, x + across, y + down)

    if scene.token is not None and 0 <= scene.token - scene.first < rows * columns:
        draw.rectangle(cell(scene.token - scene.first), outline=MARK, width=3)
    for index in scene.region:
        draw.rectangle(cell(index), fill=(*MARK, round(255 * REGION)))
    for row, column in scene.anchors:
        x, y = (column + 0.5) * across, (row + 0.5) * down
        draw.ellipse((x - 3, y - 3, x + 3, y + 3), fill="white", outline="black")
    return image


def _scale(canvas: Image.Image, scene: Scene, place: tuple[int, int, int]) -> None:
    x, y, width = place
    draw = ImageDraw.Draw(canvas)
    if scene.view == "guidance" or not (scene.heats or scene.tiles):
        return
    if scene.view == "words":
        draw.text((x, y + 6), " · ".join(f"{heat.name}: {heat.note}" for heat in scene.heats), GREY, font(12))
        return
    name = "viridis" if scene.view == "heads" else "magma"
    if scene.view == "heads":
        draw.text((x, y + 6), "by λ2, large first: large = clear regions", GREY, font(12))
        return
    bar = coloured(name, np.linspace(0, 1, width)[None].repeat(10, 0))
    canvas.paste(Image.fromarray(np.ascontiguousarray(bar)), (x, y))
    heat = scene.heats[scene.shown]
    texts = (f"{heat.low * scene.factor:.3g}", scene.unit, f"{heat.high * scene.factor:.3g}")
    _three(draw, texts, (x, y + 14, width))


def _three(draw: ImageDraw.ImageDraw, texts: Sequence[str], place: tuple[int, int, int]) -> None:
    x, y, width = place
    for text, share, anchor in zip(texts, (0, 0.5, 1), ("la", "ma", "ra"), strict=True):
        draw.text((x + share * width, y), text, GREY, font(12), anchor=anchor)


def _title(scene: Scene) -> str:
    """Of walks with what is shown of them: of their maps the page has a slider, the picture one alone."""
    shown = f": {scene.heats[scene.shown].name}" if scene.view == "walk" else ""
    return scene.title + shown


def _lines(facts: Sequence[str], width: int) -> list[str]:
    """As many of the facts in a line as fit."""
    lines = [""]
    for fact in facts:
        longer = f"{lines[-1]} · {fact}" if lines[-1] else fact
        if lines[-1] and font(12).getlength(longer) > width:
            lines.append(fact)
        else:
            lines[-1] = longer
    return [_cut(line, width) for line in lines]


def _cut(text: str, width: int) -> str:
    while text and font(12).getlength(text) > width:
        text = text.removesuffix("…")[:-1] + "…"
    return text
