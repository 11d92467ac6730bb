"""What several capture tests need: direct calls of each family's network, and a view of its hooks."""

import torch
from torch import nn, randn
from torch.nn.functional import scaled_dot_product_attention
from torch.overrides import TorchFunctionMode

from tests import tiny_networks as tiny
from tests.tiny_models import sharpen

SD_MIDDLE = "mid_block.attentions.0.transformer_blocks.0.attn1"
SD_CROSS = "mid_block.attentions.0.transformer_blocks.0.attn2"


def seeded(build, *args, **options):
    """A tiny network in eval mode with sharp attention; the global RNG is left alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = build(*args, **options).eval()
    sharpen(model)
    return model


def unet_inputs(height=16, width=16, batch=2, text=77):
    g = torch.Generator().manual_seed(1)
    return {
        "sample": randn(batch, 4, height, width, generator=g),
        "timestep": torch.tensor(10),
        "encoder_hidden_states": randn(batch, text, 16, generator=g),
    }


def flux_inputs(height=4, width=6, text=5, batch=2):
    g = torch.Generator().manual_seed(1)
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    ids = torch.stack([torch.zeros_like(rows), rows, columns], -1).reshape(-1, 3).float()
    return {
        "hidden_states": randn(batch, height * width, 16, generator=g),
        "encoder_hidden_states": randn(batch, text, 32, generator=g),
        "pooled_projections": randn(batch, 16, generator=g),
        "timestep": torch.full((batch,), 0.5),
        "img_ids": ids,
        "txt_ids": torch.zeros(text, 3),
    }


def sd3_inputs(height=8, width=12, text=5, batch=2):
    g = torch.Generator().manual_seed(1)
    return {
        "hidden_states": randn(batch, 4, height, width, generator=g),
        "encoder_hidden_states": randn(batch, text, 32, generator=g),
        "pooled_projections": randn(batch, 32, generator=g),
        "timestep": torch.full((batch,), 500.0),
    }


def hook_counts(model: nn.Module) -> list[tuple[int, int]]:
    return [(len(m._forward_hooks), len(m._forward_pre_hooks)) for m in model.modules()]


def unet():
    return seeded(tiny.unet)


class Spy(TorchFunctionMode):
    """Keeps the arguments and the output of every attention call, as a reference for what was captured."""

    def __init__(self):
        super().__init__()
        self.calls = []

    def __torch_function__(self, func, types, args=(), kwargs=None):
        output = func(*args, **(kwargs or {}))
        if func is scaled_dot_product_attention:
            names = ("query", "key", "value")
            self.calls.append({**dict(zip(names, args, strict=False)), **(kwargs or {}), "output": output})
        return output
