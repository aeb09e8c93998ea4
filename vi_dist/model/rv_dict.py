"""The mapping that observations are given in."""

from __future__ import annotations

from torch import Tensor

from vi_dist.model.identifier import RVIdentifier

RVDict = dict[RVIdentifier, Tensor]
"""Values keyed by random variable."""
