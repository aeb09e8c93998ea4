"""From configurations, which are names and numbers, to what the engine steps."""

from __future__ import annotations

import torch

from vi_dist.sweep.configuration import Choice, Configuration
from vi_dist.vi.columns import Column
from vi_dist.vi.divergences import DIVERGENCES
from vi_dist.vi.estimators import ESTIMATORS
from vi_dist.vi.guides.family import Family
from vi_dist.vi.guides.table import GUIDES
from vi_dist.vi.noise import NoiseSpace
from vi_dist.vi.optimizers import OPTIMIZERS, Optimizer

DTYPES = {"float32": torch.float32, "float64": torch.float64}


def column(configuration: Configuration) -> Column:
    """One configuration as a column of a pack."""
    schedule = configuration.schedule
    return Column(
        seed=configuration.seed,
        steps=configuration.steps,
        learning_rate=configuration.learning_rate,
        divergence=DIVERGENCES[configuration.divergence.name].make(
            **dict(configuration.divergence.arguments)
        ),
        estimator=ESTIMATORS[configuration.estimator.name].make(**dict(configuration.estimator.arguments)),
        coefficients=dict(configuration.optimizer.arguments),  # type: ignore[arg-type]
        initialisation=configuration.initialisation.name,
        averaging=configuration.averaging,
        schedule=(schedule.name, dict(schedule.arguments)),  # type: ignore[arg-type]
    )


def family(guide: Choice, space: NoiseSpace) -> Family:
    """A guide family with its arguments, over a model's coordinates."""
    made: Family = GUIDES[guide.name].make(space, **dict(guide.arguments))
    return made


def optimizer(choice: Choice) -> Optimizer:
    """The update rule that all configurations of a pack share; its coefficients are columns."""
    made: Optimizer = OPTIMIZERS[choice.name].make()
    return made
