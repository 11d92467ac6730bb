"""What rankings with the class in view cost: `python -m tests.benchmarks.gradients` prints and saves JSON.

One picture through vision transformers of a size (random weights), in one run: seconds beside one pass
forward, and the most memory beyond the model's. Chefer's rollout stands here as its authors make it, from
maps that autograd keeps, beside ours from queries and keys; both must agree.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median

import torch
from jaxtyping import Float
from torch import Tensor, nn

from eval.masking import attribution
from eval.masking.classifier import HeadedClassifier, Images
from eval.views import Views
from tests.benchmarks.memory import peak_extra_mib
from tests.benchmarks.saving import save_rows
from tokenrank_guidance.markdown import markdown_table
from tokenrank_guidance.program import run
from tokenrank_guidance.report import REPORT, Json

PATCH = 16
BASE = {"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12, "intermediate_size": 3072}
Way = Callable[[HeadedClassifier, Images], object]


def forward(classifier: HeadedClassifier, images: Images) -> object:
    with torch.inference_mode():
        return classifier(images)


def forward_and_backward(classifier: HeadedClassifier, images: Images) -> Tensor:
    own = images.clone().requires_grad_()
    return torch.autograd.grad(classifier(own).logits.max(-1).values.sum(), own)[0]


def ranked(
    scorer: Callable[[attribution.Seen], Tensor], classifier: HeadedClassifier, images: Images
) -> Tensor:
    """The pass that is looked at is a part of the cost."""
    return scorer(attribution.look(classifier, images))


def rollout_of_maps(classifier: HeadedClassifier, images: Images) -> Float[Tensor, "images patches"]:
    """Chefer et al. 2021, eq. 5 and 6, with every head's map and its gradient in memory."""
    model = classifier.model
    with torch.enable_grad():
        output = model(images.clone().requires_grad_(), output_attentions=True)
        maps = output.attentions
        gradients = torch.autograd.grad(output.logits.max(-1).values.sum(), maps)
    relevance = torch.eye(maps[0].shape[-1])
    for own, gradient in zip(maps, gradients, strict=True):
        relevance = relevance + (gradient * own).clamp_min(0).mean(1).detach() @ relevance
    return relevance[:, 0, 1:]


WAYS: dict[str, Way] = {
    "one pass forward": forward,
    "one pass forward and back": forward_and_backward,
    "gradient_chain": partial(ranked, attribution.gradient_chain),
    "gradient_rollout, from queries and keys": partial(ranked, attribution.gradient_rollout),
    "the same from maps, as published": rollout_of_maps,
    "gradient_input": partial(ranked, attribution.gradient_input),
    "integrated_gradients, 20 steps": partial(ranked, attribution.integrated_gradients),
}
OF_MAPS = "the same from maps, as published"


@dataclass(frozen=True)
class Row:
    """One way on a model: median seconds, times one pass forward, MiB at most beyond what was held before."""

    model: str
    tokens: int
    way: str
    seconds: float
    times_forward: float
    peak_mib: float | None


def transformers_model(pixels: int, size: dict[str, int], attention: str = "sdpa") -> HeadedClassifier:
    from transformers import ViTConfig, ViTForImageClassification

    torch.manual_seed(0)
    config = ViTConfig(image_size=pixels, patch_size=PATCH, num_labels=1000, **size)
    config._attn_implementation = attention
    return _classifier(ViTForImageClassification(config))


def timm_model(pixels: int, size: dict[str, int]) -> HeadedClassifier:
    from timm.models.vision_transformer import VisionTransformer

    torch.manual_seed(0)
    width, heads, depth = size["hidden_size"], size["num_attention_heads"], size["num_hidden_layers"]
    return _classifier(VisionTransformer(pixels, PATCH, embed_dim=width, num_heads=heads, depth=depth))


def _classifier(model: nn.Module) -> HeadedClassifier:
    return HeadedClassifier(model.eval(), ())


def main(argv: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pixels", nargs="+", type=int, default=[224, 384])
    parser.add_argument("--depth", type=int, default=BASE["num_hidden_layers"])
    parser.add_argument("--width", type=int, default=BASE["hidden_size"])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path("gradients_benchmark"))
    options = parser.parse_args(argv)
    torch.set_num_threads(1)
    size = BASE | {"num_hidden_layers": options.depth, "hidden_size": options.width}
    rows: list[Row] = []
    for pixels in options.pixels:
        rows += measured("transformers' ViT", transformers_model, pixels, size, options.rounds)
        rows += measured("timm's ViT", timm_model, pixels, size, options.rounds)
        save(rows, options)
    print(f"\nsaved {options.out / REPORT}", file=sys.stderr)


def measured(
    name: str, make: Callable[..., HeadedClassifier], pixels: int, size: dict[str, int], rounds: int
) -> list[Row]:
    """Ways take turns in rounds, after one run of each that measures memory."""
    images = torch.randn(1, 3, pixels, pixels, generator=torch.Generator().manual_seed(0))
    ways = {way: partial(WAYS[way], make(pixels, size)) for way in WAYS if way != OF_MAPS}
    if make is transformers_model:
        ways[OF_MAPS] = partial(rollout_of_maps, make(pixels, size, "eager"))
    memory = {
        way: peak_extra_mib(lambda work=work: work(images), images.device) for way, work in ways.items()
    }
    times: dict[str, list[float]] = {way: [] for way in ways}
    for _ in range(rounds):
        for way, work in ways.items():
            start = time.process_time()
            work(images)
            times[way].append(time.process_time() - start)
    alone = times["one pass forward"]
    ratios = {way: median(b / a for a, b in zip(alone, times[way], strict=True)) for way in ways}
    tokens = 1 + (pixels // PATCH) ** 2
    return [Row(name, tokens, way, median(times[way]), ratios[way], memory[way]) for way in ways]


def save(rows: list[Row], options: argparse.Namespace) -> None:
    """The report and its table."""
    print(table(save_rows(rows, options, VIEWS)), flush=True)


def table(report: Json) -> str:
    """A line per model, size and way."""
    return markdown_table([_line(row) for row in report["results"]], tuple(_line(report["results"][0])))


def _line(row: Json) -> dict[str, str]:
    return {
        "model": f"{row['model']}, {row['tokens']} tokens",
        "ranking": row["way"],
        "CPU s": f"{row['seconds']:.2f}",
        "× one pass": f"{row['times_forward']:.1f}",
        "peak MiB": "–" if row["peak_mib"] is None else f"{row['peak_mib']:.0f}",
    }


VIEWS = Views({"cost": table})


if __name__ == "__main__":
    sys.exit(run(main))
