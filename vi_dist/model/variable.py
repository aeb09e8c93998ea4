"""One instantiated random variable of a world."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property

from torch import Tensor
from torch.distributions import Distribution

from vi_dist.model.identifier import RVIdentifier
from vi_dist.model.log_density import log_density


@dataclass
class Variable:
    """A random variable's value and place in the graph of one world.

    Attributes:
        value: drawn, observed or given.
        distribution: what the model's function returned, given the parents' values.
        parents: the variables that the function called.
        children: the variables whose functions called this one.
    """

    value: Tensor
    distribution: Distribution
    parents: set[RVIdentifier] = field(default_factory=set)
    children: set[RVIdentifier] = field(default_factory=set)

    @cached_property
    def log_prob(self) -> Tensor:
        """Log density of the value, of the distribution's batch shape."""
        return log_density(self.distribution, self.value)

    def copy(self) -> Variable:
        """The same variable with parents and children of its own."""
        return replace(self, parents=set(self.parents), children=set(self.children))
