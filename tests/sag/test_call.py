"""Inputs of a denoiser call by name, and what stays of them when the call empties its lists."""

import torch
from torch import nn

from sag.call import Given


class Emptying(nn.Module):
    """Takes what it is given out of the list, as UNet2DConditionModel does with T2I-Adapter features."""

    def forward(self, sample, residuals=None, options=None):
        return sample + residuals.pop(0) * options["scale"]


def test_arguments_by_position_and_by_name():
    x = torch.ones(1)
    named = Given.take((x,), {"options": {"scale": 2}}).named(Emptying())
    assert list(named) == ["sample", "options"]
    assert named["sample"] is x


def test_lists_and_dicts_are_copies_that_hold_the_same_tensors():
    module, x, residual = Emptying(), torch.ones(1), torch.full((1,), 3.0)
    given = {"residuals": [residual], "options": {"scale": 2}}
    named = Given.take((x,), given).named(module)
    assert module(x, **given) == 7
    assert given["residuals"] == []
    assert named["residuals"][0] is residual
    assert named["options"] == {"scale": 2}
    assert module(**named) == 7
