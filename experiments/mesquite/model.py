"""The mass of the leaves of 46 mesquite bushes, regressed on their measures."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.distributions import Distribution, HalfNormal, Normal

from vi_dist import Model, random_variable

# The priors are flat; these are so wide that they are the same to every digit that matters.
WIDE = 1000.0


def build(data: dict[str, Tensor]) -> Model:
    """Regress log weight on the logarithms of volume, area, shape, height and density, and on the group.

    ``beta[0]`` is the intercept; the other columns are ``log(diam1 * diam2 * canopy_height)``,
    ``log(diam1 * diam2)``, ``log(diam1 / diam2)``, ``log(total_height)``, ``log(density)`` and ``group``.

    Args:
        data: ``weight`` in grams, ``diam1``, ``diam2``, ``canopy_height`` and ``total_height`` in metres, ``density``
            (stems), ``group`` (0 or 1), each of shape ``[bushes]``.
    """
    diam1, diam2, weight = data["diam1"], data["diam2"], data["weight"]
    columns = [
        torch.ones_like(weight),
        (diam1 * diam2 * data["canopy_height"]).log(),
        (diam1 * diam2).log(),
        (diam1 / diam2).log(),
        data["total_height"].log(),
        data["density"].log(),
        data["group"],
    ]
    design = torch.stack(columns, dim=1)

    @random_variable
    def beta() -> Distribution:
        return Normal(weight.new_zeros(len(columns)), WIDE)

    @random_variable
    def sigma() -> Distribution:
        return HalfNormal(weight.new_tensor(WIDE))

    @random_variable
    def log_weight() -> Distribution:
        return Normal(design @ beta(), sigma())

    return Model(queries=[beta(), sigma()], observations={log_weight(): weight.log()})
