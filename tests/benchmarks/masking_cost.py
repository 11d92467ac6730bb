"""What a masking run costs beyond its forward passes: `python -m tests.benchmarks.masking_cost` prints JSON.

Every batch that the run puts through the model is put through it again, alone: the ratio of both times, each
pair one after the other in this process, is what rankings, masks and bookkeeping add. Images are noise; the
model is a ViT-Ti of random weights, or the one in a folder.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from statistics import median

import torch
from torch import nn
from transformers import AutoModelForImageClassification, ViTConfig, ViTForImageClassification

from eval.masking.arms import choose_arms
from eval.masking.classifier import HeadedClassifier
from eval.masking.measure import Masking, Measurement

TINY = {"hidden_size": 192, "num_attention_heads": 3, "intermediate_size": 768, "num_labels": 1000}
ALL = ("random", "centre", "column_sum", "cls_attention", "rollout", "tokenrank", "tokenrank_lambda2")


def seconds(work, device: str) -> float:
    synchronize = torch.cuda.synchronize if device == "cuda" else lambda: None
    synchronize()
    start = time.perf_counter()
    work()
    synchronize()
    return time.perf_counter() - start


def passes(model: nn.Module, measure: Measurement, batch: tuple) -> list[torch.Tensor]:
    """What one batch of images puts through the model."""
    seen: list[torch.Tensor] = []
    hook = model.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    measure(*batch)
    hook.remove()
    return seen


def measure_cost(options: argparse.Namespace) -> dict[str, float]:
    torch.manual_seed(0)
    source = options.model
    model = AutoModelForImageClassification.from_pretrained(source) if source else None
    model = (model or ViTForImageClassification(ViTConfig(**TINY))).float().eval().to(options.device)
    layers = options.layers if options.layers == "all" else [int(i) for i in options.layers.split(",")]
    ranker = choose_arms(model, options.scorers.split(","), layers)
    measure = Measurement(HeadedClassifier(model, ()), ranker, Masking(options.mask))
    images = torch.randn(options.images, 3, 224, 224, device=options.device)
    batch = images, torch.zeros(len(images), dtype=torch.long, device=options.device), range(len(images))
    inputs = passes(model, measure, batch)

    @torch.inference_mode()
    def plain() -> None:
        for given in inputs:
            model(given)

    pairs = [
        (seconds(plain, options.device), seconds(lambda: measure(*batch), options.device))
        for _ in range(options.pairs)
    ]
    print(f"pairs: {pairs}", file=sys.stderr)
    return {
        "arms": len(ranker.arms),
        "passes": len(inputs),
        "plain_s": median(a for a, _ in pairs),
        "run_s": median(b for _, b in pairs),
        "run_over_plain": median(b / a for a, b in pairs),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", help="a folder or Hub id of transformers")
    parser.add_argument("--scorers", default=",".join(ALL))
    parser.add_argument("--layers", default="10")
    parser.add_argument("--mask", default="zero")
    parser.add_argument("--images", type=int, default=8)
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    options = parser.parse_args()
    result = measure_cost(options)
    json.dump({"results": result, "config": vars(options), "torch": torch.__version__}, sys.stdout, indent=1)
    print()


if __name__ == "__main__":
    main()
