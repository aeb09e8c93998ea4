"""What every side of a comparison does."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from benchmarks.models.case import Array, Case

# A full-rank guide takes lower rates, or its thousands of params keep jittering; and so it takes more steps.
FULL_RANK, FULL_RANK_STEPS = 0.25, 2.0


@dataclass(frozen=True)
class Job:
    """What is stepped: the same for every side.

    Attributes:
        guide: `mean_field` or `full_rank`.
        width: C, the configurations; each has a seed and a learning rate of its own.
        samples: S, draws per step.
        rate: factor on the case's learning rate.
        device: where vi_dist and Pyro compute; NumPyro is where JAX is.
    """

    case: Case
    guide: str
    width: int
    samples: int
    rate: float = 1.0
    device: str = "cpu"

    def rates(self) -> list[float]:
        """Learning rates of the columns; the first one's is that of the training run before ELBOs are compared."""
        first = self.case.learning_rate * self.rate * (FULL_RANK if self.guide == "full_rank" else 1.0)
        return [first * (1.0, 0.7, 0.5, 0.25)[c % 4] for c in range(self.width)]

    @property
    def check_steps(self) -> int:
        """Steps of that training run."""
        return round(self.case.check_steps * (FULL_RANK_STEPS if self.guide == "full_rank" else 1.0))


@dataclass(frozen=True)
class Gaussian:
    """A peer's guide, in its own coordinates: names and sizes of latents in order, `loc [d]`, `tril [d, d]`."""

    sites: list[tuple[str, int]]
    loc: Array
    tril: Array


class Side(Protocol):
    """One way of stepping a job: noise, gradient, optimizer and records included."""

    name: str

    def advance(self, steps: int) -> Array:
        """Take so many steps, wait for the result, and return the losses `(steps, C)`."""
        ...

    def set_rate(self, factor: float) -> None:
        """Go on with learning rates multiplied by a factor."""
        ...

    def guide(self) -> Gaussian:
        """What the first column has learned."""
        ...
