"""One guided denoiser call in plain loops: the method once more, sharing no code with `sag`.

Nothing here knows hooks, operators or schedulers: attention is a softmax written out, TokenRank a linear
system, the blur one convolution with a two-dimensional kernel, the noise level each paper's formula of time.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tokenrank_guidance import AttentionRecord, capture

SAMPLE = {"sd": "sample", "sdxl": "sample", "ddpm": "sample"}
LUMINA = ("lumina", "lumina2")
FLOW = ("sd3", "flux", "auraflow", *LUMINA)
WHOLE = ("flux", "lumina2", "ddpm")  # a call is never both halves


def mean_map(record: AttentionRecord, row: int) -> Tensor:
    """(tokens, tokens): the heads' mean of one image's map, over its image tokens alone."""
    heads = []
    for q, k in zip(record.q[row], record.k[row], strict=True):
        q, k = q[record.image].double(), k[record.image].double()
        weights = torch.exp(q @ k.T * record.scale)
        heads.append(weights / weights.sum(1, keepdim=True))
    return sum(heads) / len(heads)


def token_score(matrix: Tensor, scorer: str, damping: float = 0.99) -> Tensor:
    """(tokens,): attention received, or n·π with π = d·πP + (1 − d)/n solved as a linear system."""
    n = matrix.shape[0]
    if scorer == "sag":
        return matrix.sum(0)
    system = torch.eye(n, dtype=matrix.dtype) - damping * matrix.T
    return n * torch.linalg.solve(system, torch.full((n,), (1 - damping) / n, dtype=matrix.dtype))


def blurred(image: Tensor, size: int = 9, sigma: float = 1.0) -> Tensor:
    """(c, h, w): convolution with the outer product of two Gaussians, borders mirrored by `F.pad`."""
    offsets = torch.arange(size, dtype=image.dtype) - size // 2
    line = torch.exp(-(offsets**2) / (2 * sigma**2))
    kernel = torch.outer(line, line) / line.sum() ** 2
    padded = F.pad(image, [size // 2] * 4, mode="reflect")
    return torch.stack([F.conv2d(channel[None, None], kernel[None, None])[0, 0] for channel in padded])


def unpacked(tokens: Tensor, height: int, width: int) -> Tensor:
    """FLUX's (h·w, 4c) tokens as a (c, 2h, 2w) image."""
    channels = tokens.shape[1] // 4
    image = tokens.new_empty(channels, 2 * height, 2 * width)
    for i in range(height):
        for j in range(width):
            image[:, 2 * i : 2 * i + 2, 2 * j : 2 * j + 2] = tokens[i * width + j].view(channels, 2, 2)
    return image


def packed(image: Tensor, height: int, width: int) -> Tensor:
    tiles = [
        image[:, 2 * i : 2 * i + 2, 2 * j : 2 * j + 2].reshape(-1)
        for i in range(height)
        for j in range(width)
    ]
    return torch.stack(tiles)


def parts(name: str, x: Tensor, output: Tensor, level: tuple[float, float]) -> tuple[Tensor, Tensor]:
    """The clean part and the noise that a model's output takes its input apart into."""
    alpha, sigma = level
    flow, output = name in FLOW, -output if name in LUMINA else output
    clean = x - sigma * output if flow else (x - sigma * output) / alpha
    return clean, x + (1 - sigma) * output if flow else output


def degraded(name: str, x: Tensor, output: Tensor, mask: Tensor, level: tuple[float, float]) -> Tensor:
    """One image's input with its predicted clean part blurred by each token's weight and noised again."""
    alpha, sigma = level
    clean, noise = parts(name, x, output, level)
    image = unpacked(clean, *mask.shape) if name == "flux" else clean
    rows, columns = image.shape[1] // mask.shape[0], image.shape[2] // mask.shape[1]
    fine = mask.repeat_interleave(rows, 0).repeat_interleave(columns, 1)
    fine = fine.to(image.dtype)
    image = fine * blurred(image) + (1 - fine) * image
    return alpha * (packed(image, *mask.shape) if name == "flux" else image) + sigma * noise


def rescaled(
    name: str,
    x: Tensor,
    output: Tensor,
    shift: Tensor,
    grid: tuple[int, int],
    level: tuple[float, float],
    amount: float,
) -> Tensor:
    """One image's shift with `amount` of each channel's mean and deviation in x̂₀ as they are without it."""
    per_output = (parts(name, x, output + 1, level)[0] - parts(name, x, output, level)[0]).flatten()[0]
    clean = [parts(name, x, made, level)[0] for made in (output, output + shift)]
    plain, guided = (unpacked(part, *grid) if name == "flux" else part for part in clean)
    kept = torch.stack(
        [
            amount * (other.var(correction=0) / one.var(correction=0)).sqrt() * (one - one.mean())
            + amount * other.mean()
            + (1 - amount) * one
            for one, other in zip(guided, plain, strict=True)
        ]
    )
    return ((packed(kept, *grid) if name == "flux" else kept) - clean[0]) / per_output


def noise_level(name: str, timestep: Tensor, alphas_cumprod: Tensor | None) -> tuple[float, float]:
    """(α, σ): rectified flow counts σ itself as time (SD3 in thousandths, Lumina back), DDPM looks ᾱ up."""
    time = timestep.flatten()[0].item()
    if name in FLOW:
        sigma = time / 1000 if name == "sd3" else 1 - time if name in LUMINA else time
        return 1 - sigma, sigma
    alpha2 = alphas_cumprod[int(time)].item()
    return math.sqrt(alpha2), math.sqrt(1 - alpha2)


def hard(score: Tensor) -> Tensor:
    return (score > 1).to(score.dtype)


def soft(score: Tensor) -> Tensor:
    """Half a token's blur at the mean score 1, in proportion to it, up to all."""
    return torch.tensor([[min(value / 2, 1.0) for value in row] for row in score.tolist()], dtype=score.dtype)


MASKS: dict[str, Callable[[Tensor], Tensor]] = {"hard": hard, "soft": soft}


@torch.no_grad()
def shift(
    name: str,
    model: nn.Module,
    inputs: dict[str, Any],
    cfg: bool,
    scorer: str,
    scale: float,
    table: Tensor,
    mask: Callable[[Tensor], Tensor] = hard,
    rescale: float = 0.0,
) -> Tensor:
    """s·(ε − ε̂) of each image, by running `model` twice on its unconditional half (or on all of a batch)."""
    key = SAMPLE.get(name, "hidden_states")
    batch = inputs[key].shape[0]
    chosen = list(range(batch))
    if cfg and name not in WHOLE:
        chosen = chosen[batch // 2 :] if name in ("dit", "lumina") else chosen[: batch // 2]
    level = noise_level(name, torch.as_tensor(inputs["timestep"]), table)
    with capture(model) as maps:
        output = model(**inputs | {"return_dict": False})[0]
    channels = slice(None) if name == "flux" else slice(inputs[key].shape[1])
    x = inputs[key].clone()
    for row in chosen:
        score = token_score(mean_map(maps[-1], row), scorer).view(maps[-1].grid)
        x[row] = degraded(name, x[row], output[row][channels], mask(score), level)
    again = model(**inputs | {key: x, "return_dict": False})[0]
    shifts = {row: scale * (output[row] - again[row])[channels] for row in chosen}
    if rescale > 0:
        for row in chosen:
            one, made = inputs[key][row], output[row][channels]
            shifts[row] = rescaled(name, one, made, shifts[row], maps[-1].grid, level, rescale)
    return torch.stack([shifts[row] for row in chosen])
