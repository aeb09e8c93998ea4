"""The image of a support under transforms, which torch's `TransformedDistribution` does not state."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor
from torch.distributions import biject_to
from torch.distributions.constraints import Constraint
from torch.distributions.transforms import ComposeTransform, Transform


class Image(Constraint):
    """The values T_n(...T_1(x)) of all x of a support.

    >>> import torch
    >>> from torch.distributions import AffineTransform, constraints
    >>> above_one = Image(constraints.positive, [AffineTransform(1.0, 1.0)], 0)
    >>> above_one.check(torch.tensor([0.5, 1.5]))
    tensor([False,  True])

    Args:
        base: the support.
        transforms: T_1, ..., T_n.
        event_dim: dimensions of one value.
    """

    def __init__(self, base: Constraint, transforms: Sequence[Transform], event_dim: int) -> None:
        self.base, self.transforms = base, tuple(transforms)
        self._event_dim = event_dim
        super().__init__()

    @property
    def is_discrete(self) -> bool:  # type: ignore[override]
        """Whether the base is."""
        return bool(self.base.is_discrete)

    @property
    def event_dim(self) -> int:  # type: ignore[override]
        """Dimensions of one value."""
        return self._event_dim

    def check(self, value: Tensor) -> Tensor:
        """Whether each value `(*batch, *event)` is in the image, `(*batch)`."""
        batch = value.dim() - self._event_dim
        inside = _of_batch(value.isfinite(), batch)
        for transform in reversed(self.transforms):
            inside = inside & _of_batch(transform.codomain.check(value), batch)
            value = transform.inv(value)
            inside = inside & _of_batch(value.isfinite(), batch)
        return inside & _of_batch(self.base.check(value), batch)

    def __repr__(self) -> str:
        names = ", ".join(type(transform).__name__ for transform in self.transforms)
        return f"the image of {self.base} under {names}"


def simplified(support: Constraint | None) -> Constraint | None:
    """The codomain of an image's last transform where the image is all of it; other supports as they are."""
    if not isinstance(support, Image):
        return support
    reached = simplified(support.base)
    for transform in support.transforms:
        if transform.domain is not reached:
            return support
        reached = transform.codomain
    return reached


def _of_batch(inside: Tensor, batch: int) -> Tensor:
    """Whether all of the entries are inside that belong to each element of the batch."""
    return inside if inside.dim() <= batch else inside.flatten(batch).all(-1)


def _biject_to_image(support: Image) -> Transform:
    """Coordinates of the base, then the transforms."""
    return ComposeTransform([biject_to(support.base), *support.transforms])


biject_to.register(Image, _biject_to_image)
