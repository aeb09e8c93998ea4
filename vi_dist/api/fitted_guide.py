"""What a fit consists of: numbers, params, the guide that these are of and the model that they belong to."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from vi_dist.cluster.columns import family
from vi_dist.cluster.prepared import PreparedModel
from vi_dist.cluster.sweep_files import MODEL_PREFIX
from vi_dist.sweep.configuration import Choice
from vi_dist.vi.guides.family import Family

NUMBERS = ("elbo", "elbo_se", "iw_elbo", "khat", "elpd", "elpd_se", "seconds")
"""The numbers of a fit that its row of the leaderboard holds, if it has them."""


@dataclass(frozen=True)
class FittedGuide:
    """The numbers and params of a fit, and its guide; `vi_dist.Fit` describes the attributes."""

    key: str
    name: str
    configuration: dict[str, Any]
    status: str
    reason: str
    steps: int
    losses: Tensor = field(repr=False, compare=False)
    elbo: float = math.nan
    elbo_se: float = math.nan
    iw_elbo: float = math.nan
    khat: float = math.nan
    elpd: float = field(default=math.nan, compare=False)  # most fits have none, and NaN equals nothing
    elpd_se: float = field(default=math.nan, compare=False)
    seconds: float = 0.0
    params: dict[str, Tensor] = field(default_factory=dict, repr=False, compare=False)
    prepared: PreparedModel | None = field(default=None, repr=False, compare=False)

    def leaves(self) -> dict[str, Tensor]:
        """The guide's own parameters by name."""
        return {name: value for name, value in self.params.items() if not name.startswith(MODEL_PREFIX)}

    def model_params(self) -> Tensor:
        """The model's own params, flat, `(p,)`, in the order of the model."""
        values = [
            self.params[f"{MODEL_PREFIX}{site.name}"].reshape(-1) for site in self.ready().layout.params
        ]
        like = next(iter(self.leaves().values()))
        return torch.cat(values) if values else like.new_zeros(0)

    @property
    def guide_name(self) -> str:
        """The guide family's name."""
        return Choice.from_data(self.configuration["guide"]).name

    def guide(self) -> Family:
        """The guide family over the model's coordinates."""
        return family(Choice.from_data(self.configuration["guide"]), self.ready().layout.noise).settled

    def ready(self) -> PreparedModel:
        """The model that the params belong to. Raises `ValueError` where there is none, or there are no params."""
        if not self.params:
            raise ValueError(f"{self.name} has no params: {self.reason}")
        if self.prepared is None:
            raise ValueError(
                f"{self.name} was read without its model; pass build to SweepResult.load or Fit.load"
            )
        return self.prepared
