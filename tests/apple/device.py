"""A device like Apple's GPUs, on any machine: no float64, and only operators that torch has for them.

Its tensors hold their values on the CPU, where everything is computed. Nothing is computed in float64 on it
nor on the way from it; operands of another device are refused; and what torch's own table of operators has
for other devices but not for "mps" is missing. diffusers takes float32 for positions on "mps" and on "npu",
and the former is known to torch and not built in everywhere: so it is called the latter.
"""

from functools import cache
from pathlib import Path
from typing import Any

import torch
import torchgen
import yaml
from torch.utils import backend_registration
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

NAME = "npu"
TABLE = Path(torchgen.__file__).parent / "packaged" / "ATen" / "native" / "native_functions.yaml"
ANYWHERE = {"MPS", *(f"Composite{kind}" for kind in ("ExplicitAutograd", "ImplicitAutograd"))}
ANYWHERE.add("CompositeExplicitAutogradNonFunctional")
# Operators whose operands may lie on two devices.
MIXED = {"copy_", "_to_copy", "index", "index_put_", "_index_put_impl_", "set_", "lift_fresh"}
DOUBLE = (torch.float64, torch.complex128)


def register() -> torch.device:
    """Make torch know the device; for the rest of the process."""

    class Module(backend_registration._DummyBackendModule):
        def get_amp_supported_dtype(self) -> list[torch.dtype]:
            return [torch.float16, torch.bfloat16]

    backend_registration._setup_privateuseone_for_python_backend(rename=NAME, backend_module=Module())
    return torch.device(NAME, 0)


class Held(torch.Tensor):
    """A tensor there: `values` on the CPU."""

    values: torch.Tensor

    @staticmethod
    def __new__(cls, values: torch.Tensor) -> "Held":
        return torch.Tensor._make_wrapper_subclass(
            cls,
            values.shape,
            strides=values.stride(),
            storage_offset=values.storage_offset(),
            dtype=values.dtype,
            device=torch.device(NAME, 0),
            requires_grad=values.requires_grad,
        )

    def __init__(self, values: torch.Tensor) -> None:
        self.values = values

    def __repr__(self) -> str:
        return f"Held({self.values})"

    def tolist(self) -> Any:
        return self.values.tolist()

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        return computed(func, args, dict(kwargs or {}))


class Device(TorchDispatchMode):
    """While it is entered, the device is there."""

    def __enter__(self):
        torch._C._set_only_lift_cpu_tensors(True)  # torch.tensor(…, device=…) is made here and moved there
        return super().__enter__()

    def __exit__(self, *failure):
        torch._C._set_only_lift_cpu_tensors(False)
        return super().__exit__(*failure)

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        return computed(func, args, dict(kwargs or {}))


def computed(func, args, kwargs):
    """What an operator gives, on the device where torch would have it."""
    tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]
    there = [tensor for tensor in tensors if isinstance(tensor, Held)]
    device = kwargs.get("device")
    stays = bool(there) if device is None else torch.device(device).type == NAME
    name = str(func).removeprefix("aten.").removesuffix(".default")
    if there or stays:
        check(name, tensors if there else [])
    if device is not None and stays:
        kwargs["device"] = torch.device("cpu")
    if name == "_efficientzerotensor":  # zeros without storage, for which torch needs a key of its own
        func = torch.ops.aten.zeros.default
    same = {id(tensor.values): tensor for tensor in there}
    args, kwargs = tree_map(lambda leaf: leaf.values if isinstance(leaf, Held) else leaf, (args, kwargs))
    out = func(*args, **kwargs)
    left = there or stays
    if left and any(leaf.dtype in DOUBLE for leaf in tree_leaves(out) if isinstance(leaf, torch.Tensor)):
        raise TypeError(
            "Cannot convert a MPS Tensor to float64 dtype as the MPS framework doesn't support it"
        )
    if not stays or (name == "copy_" and id(out) not in same):
        return out
    return tree_map(
        lambda leaf: same.get(id(leaf), Held(leaf)) if isinstance(leaf, torch.Tensor) else leaf, out
    )


def check(name: str, tensors: list[torch.Tensor]) -> None:
    """Raise what torch would for an operator that is missing, or for operands of two devices."""
    if name.partition(".")[0] in MIXED:
        return
    if name in missing():
        raise NotImplementedError(
            f"The operator 'aten::{name}' is not currently implemented for the MPS device"
        )
    if any(not isinstance(tensor, Held) and tensor.ndim > 0 for tensor in tensors):
        raise RuntimeError(f"{name}: expected all tensors to be on the same device, got {NAME} and cpu")


@cache
def missing() -> frozenset[str]:
    """What torch's own table has for other devices, and not for Apple's."""
    table = yaml.load(TABLE.read_text(), yaml.CSafeLoader)
    entries = {entry["func"].partition("(")[0]: entry for entry in table}

    def is_there(name: str) -> bool:
        entry = entries[name]
        if "structured_delegate" in entry:
            return is_there(entry["structured_delegate"])
        kinds = {kind.strip() for kinds in entry.get("dispatch", ()) for kind in kinds.split(",")}
        return not kinds or bool(kinds & ANYWHERE)

    return frozenset(name for name in entries if not is_there(name))
