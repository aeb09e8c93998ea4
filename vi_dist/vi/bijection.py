"""The map from unconstrained coordinates to a latent's support, or an error that names the latent."""

from __future__ import annotations

from torch.distributions import Distribution
from torch.distributions.transforms import (
    ComposeTransform,
    IndependentTransform,
    Transform,
    identity_transform,
)

from vi_dist.errors import ModelError
from vi_dist.model.identifier import RVIdentifier
from vi_dist.model.support import bijection_of, support_of


def bijection(variable: RVIdentifier, distribution: Distribution) -> Transform:
    """The bijection onto the support of a latent's distribution.

    Raises `ModelError`, naming the latent, where the support is discrete or unknown to torch.
    """
    support = support_of(distribution)
    if support is None:
        raise ModelError(
            f"the {type(distribution).__name__} of {variable} states no support; give it one", key="guide"
        )
    if support.is_discrete:
        raise ModelError(
            f"{variable} is discrete ({type(distribution).__name__}) and a Gaussian or point guide does not fit it: "
            "sum it out of the model, or give it a discrete guide in VariationalInfer with "
            "monte_carlo_approximate_mixed or _enumerated",
            key="guide",
        )
    try:
        transform = bijection_of(distribution)
    except NotImplementedError as error:
        raise ModelError(
            f"{variable} has the support {support}, for which torch has no bijection; register one with "
            "torch.distributions.biject_to or give the variable a guide of its own",
            key="guide",
        ) from error
    for part in _parts(transform):
        if type(part).log_abs_det_jacobian is Transform.log_abs_det_jacobian:
            raise not_one_to_one(variable, distribution, type(part).__name__)
    return transform


def _parts(transform: Transform) -> list[Transform]:
    """The transforms that one is composed of."""
    while isinstance(transform, IndependentTransform):
        transform = transform.base_transform
    return list(transform.parts) if isinstance(transform, ComposeTransform) else [transform]


def not_one_to_one(variable: RVIdentifier, distribution: Distribution, name: str) -> ModelError:
    """The error of a latent whose distribution goes through a transform that is not one to one."""
    return ModelError(
        f"the {type(distribution).__name__} of {variable} goes through {name}, which is not one to one on the values "
        "that it gets, so it has no density; use a distribution of the result (HalfNormal for the absolute value of a "
        "Normal, LogisticNormal for its softmax), or write the transform as a functional of the latent",
        key="guide",
    )


def is_identity(transform: Transform) -> bool:
    """Whether a bijection leaves its coordinates as they are."""
    if isinstance(transform, IndependentTransform):
        return is_identity(transform.base_transform)
    return transform is identity_transform or bool(transform == identity_transform)
