"""Queries and keys to run chains on: random ones, and those of real models on real images."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from tokenrank_guidance.capture import capture
from tokenrank_guidance.markov import Arnoldi, AttentionTransition, solve_second_eigenvalue
from tokenrank_guidance.quiet import quiet_libraries

SHARED = Path(__file__).parents[3] / "shared"
VIT = SHARED / "models" / "vit-tiny-imagenet"
IMAGES = SHARED / "data" / "imagenette_val1000.parquet"
MOST_TOKENS = 4096
ROUGH = Arnoldi(tol=1e-2, max_steps=200, raise_on_failure=False)

Pair = tuple[Float[Tensor, "heads n dim"], Float[Tensor, "heads n dim"]]


class InputMissingError(Exception):
    """An input that this machine does not have."""


def gaussian(heads: int, n: int) -> Pair:
    """(a) Independent normal queries and keys, 64 numbers each."""
    g = torch.Generator().manual_seed(0)
    return torch.randn(heads, n, 64, generator=g), torch.randn(heads, n, 64, generator=g)


def vit(heads: int, n: int) -> Pair:
    """(b) Heads of a small ImageNet ViT on an image of ``n`` patches, without its CLS token."""
    if not (VIT.is_dir() and IMAGES.is_file()):
        raise InputMissingError(f"needs {VIT} and {IMAGES}")
    from transformers import ViTModel

    side = 16 * round(n**0.5)
    with quiet_libraries():
        model = ViTModel.from_pretrained(VIT, add_pooling_layer=False, dtype=torch.float32).eval()
    layers = [layer.attention for layer in model.modules() if type(layer).__name__ == "ViTLayer"]
    with torch.no_grad(), _projections(layers) as seen:
        model(_image(side), interpolate_pos_encoding=True)
    dim = model.config.hidden_size // model.config.num_attention_heads
    q, k = (
        torch.cat([each[0, 1:].unflatten(-1, (-1, dim)).transpose(0, 1) for each in seen[name]])
        for name in ("q", "k")
    )
    return _spread(q.contiguous(), k.contiguous(), heads)


def unet(heads: int, n: int) -> Pair:
    """(b) Self-attention heads of the embedded UNet; ``n`` is as it comes."""
    from tokenrank_guidance.tiny import load_pipeline

    try:
        pipe = load_pipeline("tiny-sd")
    except ValueError as error:
        raise InputMissingError(str(error)) from None
    size, config = pipe.default_sample_size, pipe.unet.config
    g = torch.Generator().manual_seed(0)
    latents = torch.randn(1, config.in_channels, size, size, generator=g)
    text = torch.randn(1, 8, config.cross_attention_dim, generator=g)
    with torch.no_grad(), capture(pipe.unet, layers="all") as maps:
        pipe.unet(latents, 500, encoder_hidden_states=text)
    records = [record for record in maps if record.tokens == n]
    if not records:
        raise InputMissingError(f"the UNet has {sorted({record.tokens for record in maps})} tokens, not {n}")
    q, k = (torch.cat([getattr(record, side)[0] for record in records]) for side in ("q", "k"))
    return _spread(q * records[0].scale * q.shape[-1] ** 0.5, k, heads)  # so that the scale is 1 / sqrt(dim)


INPUTS = {"gaussian": gaussian, "vit": vit, "unet": unet}


def _spread(q: Tensor, k: Tensor, heads: int) -> Pair:
    """``heads`` of them, evenly from the slowest mixing to the fastest, so that slow ones are among them.

    How slowly they mix is read off at most some thousand of their tokens.
    """
    sample = slice(None, None, -(-q.shape[1] // MOST_TOKENS))
    chains = AttentionTransition(q[:, sample], k[:, sample], q.shape[-1] ** -0.5)
    rates = solve_second_eigenvalue(chains, ROUGH).value
    order = rates.argsort(descending=True)
    chosen = order[torch.linspace(0, len(order) - 1, min(heads, len(order))).round().long()]
    return q[chosen], k[chosen]


@contextmanager
def _projections(layers: list[nn.Module]) -> Iterator[dict[str, list[Tensor]]]:
    """Outputs of the layers' query and key projections, in running order."""
    seen: dict[str, list[Tensor]] = {"q": [], "k": []}
    handles = []
    for layer in layers:
        for name, module in layer.named_modules():
            side = {"query": "q", "q_proj": "q", "key": "k", "k_proj": "k"}.get(name.split(".")[-1])
            if side:
                keep: Any = lambda _module, _inputs, output, side=side: seen[side].append(output)  # noqa: E731
                handles.append(module.register_forward_hook(keep))
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()


def _image(side: int) -> Float[Tensor, "1 3 side side"]:
    import pyarrow.parquet as parquet
    from PIL import Image
    from torchvision.transforms.functional import to_tensor

    first = next(parquet.ParquetFile(IMAGES).iter_batches(1)).to_pylist()[0]["image"]["bytes"]
    image = Image.open(io.BytesIO(first)).convert("RGB").resize((side, side), Image.Resampling.BICUBIC)
    return (to_tensor(image).unsqueeze(0) - 0.5) / 0.5
