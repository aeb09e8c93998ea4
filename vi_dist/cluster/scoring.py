"""What an outcome is scored by beside the common evaluation: rows held out, a reference."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property

import torch
from torch import Tensor

from vi_dist.cluster.prepared import PreparedModel
from vi_dist.cluster.setup import Setup
from vi_dist.cluster.task import Outcome
from vi_dist.evaluation.elpd import HeldOut, summed
from vi_dist.evaluation.moments import distance, moments
from vi_dist.vi.density import Density
from vi_dist.vi.guides.family import Family
from vi_dist.vi.sampling import draw_flat
from vi_dist.vi.summed_joint import Reduce, total

DRAWS = 4096
"""Draws behind the distance to a reference: means are then known to 1/64 of a standard deviation."""


class Scorer:
    """Adds to outcomes what the setup asks for; each outcome by itself.

    Args:
        setup: may name rows to hold out, and a reference.
        parts: the model in float64 on the training rows, of every shard in this process.
        reduce: the sum over all shards.
    """

    def __init__(self, setup: Setup, parts: Sequence[PreparedModel], reduce: Reduce = total) -> None:
        self._setup, self._parts, self._reduce = setup, parts, reduce
        self._held_out: dict[int, list[HeldOut]] = {}

    def __call__(self, outcome: Outcome, family: Family, samples: int) -> Outcome:
        """The outcome with its scores; as it is where it has no guide, or one that is not finite.

        Args:
            outcome: of an evaluation.
            family: of the guide that was evaluated.
            samples: draws of a score.
        """
        if not (self._setup.holdout or self._setup.reference) or not _sound(outcome):
            return outcome
        leaves = {name: leaf.to(torch.float64) for name, leaf in outcome.leaves.items()}
        params = self._params(outcome)
        if self._setup.holdout is not None:
            each = [part.each(family, leaves, params) for part in self._scored(samples)]
            found = summed(each, self._reduce)
            outcome = replace(outcome, elpd=found.value, elpd_se=found.se)
        if self._setup.reference is not None:
            rows = draw_flat(family, leaves, params, DRAWS)
            draws = {name: values.numpy() for name, values in self._parts[0].constrain(rows).items()}
            apart = distance(moments(draws), self._setup.reference)
            outcome = replace(outcome, mean_rms=apart.mean, sd_rms=apart.sd)
        return outcome

    def _params(self, outcome: Outcome) -> Tensor:
        own = [outcome.model_params[site.name].reshape(-1) for site in self._parts[0].layout.params]
        flat = torch.cat(own) if own else torch.zeros(0)
        return flat.to(torch.float64)

    def _scored(self, samples: int) -> list[HeldOut]:
        if samples not in self._held_out:
            self._held_out[samples] = [
                HeldOut(density, part.start, samples)
                for density, part in zip(self._densities, self._parts, strict=True)
            ]
        return self._held_out[samples]

    @cached_property
    def _densities(self) -> list[Density]:
        """Of the models that observe the rows held out, on the latents of the ones that were trained."""
        others = [part.held_out() for part in self._parts]
        return [Density(other.model, other.layout) for other in others]


def _sound(outcome: Outcome) -> bool:
    tensors = (*outcome.leaves.values(), *outcome.model_params.values())
    return outcome.status != "diverged" and bool(tensors) and all(bool(t.isfinite().all()) for t in tensors)
