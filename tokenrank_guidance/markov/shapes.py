"""Shapes that broadcast."""

from collections.abc import Sequence
from itertools import zip_longest


def broadcast_shapes(*shapes: Sequence[int]) -> tuple[int, ...]:
    """The shape that tensors of these have together; ``ValueError`` where they have none.

    As `torch.broadcast_shapes`, which imports a computer algebra system at its first call, for a second.
    """
    axes = []
    for sizes in zip_longest(*map(reversed, shapes), fillvalue=1):
        wide = [size for size in sizes if size != 1]
        if any(size != wide[0] for size in wide):
            raise ValueError(f"shapes {', '.join(str(tuple(shape)) for shape in shapes)} do not broadcast")
        axes.append(wide[0] if wide else 1)
    return tuple(reversed(axes))


def broadcasts(left: Sequence[int], right: Sequence[int]) -> bool:
    """Whether two shapes broadcast with each other."""
    try:
        broadcast_shapes(left, right)
    except ValueError:
        return False
    return True


def expands(shape: Sequence[int], target: Sequence[int]) -> bool:
    """Whether ``shape`` broadcasts to exactly ``target``."""
    return broadcasts(shape, target) and broadcast_shapes(shape, target) == tuple(target)
