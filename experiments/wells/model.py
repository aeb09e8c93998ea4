"""Whether 3,020 households in Bangladesh switched to another well: a logistic regression with an interaction."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.distributions import Bernoulli, Distribution, Normal

from vi_dist import Model, random_variable

# The priors are flat; this is so wide that it is the same to every digit that matters.
WIDE = 100.0


def build(data: dict[str, Tensor]) -> Model:
    """Regress switching on distance (in 100 m) and arsenic, both centred, and on their product.

    ``switched ~ Bernoulli(logits=alpha + beta[0] * distance + beta[1] * arsenic + beta[2] * distance * arsenic)``.

    Args:
        data: ``dist`` in metres to the nearest safe well, ``arsenic`` in hundreds of micrograms a litre, ``switched``
            (0 or 1), each of shape ``[households]``.
    """
    distance = (data["dist"] - data["dist"].mean()) / 100
    arsenic = data["arsenic"] - data["arsenic"].mean()
    design = torch.stack([distance, arsenic, distance * arsenic], dim=1)

    @random_variable
    def alpha() -> Distribution:
        return Normal(distance.new_tensor(0.0), WIDE)

    @random_variable
    def beta() -> Distribution:
        return Normal(distance.new_zeros(3), WIDE)

    @random_variable
    def switched() -> Distribution:
        return Bernoulli(logits=alpha() + design @ beta())

    return Model(queries=[alpha(), beta()], observations={switched(): data["switched"]})
