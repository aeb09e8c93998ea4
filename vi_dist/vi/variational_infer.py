"""Interactive variational inference: any guides, any torch optimizer, one step at a time."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial

import torch
from torch import Tensor
from torch.optim import Adam, Optimizer

from vi_dist.errors import ModelError
from vi_dist.model.identifier import RVIdentifier
from vi_dist.model.rv_dict import RVDict
from vi_dist.model.validation import unvalidated
from vi_dist.vi.averaging import average_weight, checked_part
from vi_dist.vi.divergences import kl_reverse
from vi_dist.vi.guide_check import check_guides
from vi_dist.vi.guide_map import GuideMap, Query
from vi_dist.vi.monte_carlo import monte_carlo_approximate_reparam
from vi_dist.vi.objective import DiscrepancyFn
from vi_dist.vi.variational_world import VariationalWorld

MakeOptimizer = Callable[[Iterable[Tensor]], Optimizer]
StepCallback = Callable[[int, Tensor, "VariationalInfer"], object]


def default_optimizer(params: Iterable[Tensor]) -> Optimizer:
    """Adam with learning rate 0.01."""
    return Adam(params, lr=1e-2)


class VariationalInfer:
    """Fits guides to a model's posterior by stochastic gradients.

    >>> from torch.distributions import Normal
    >>> from vi_dist.model.decorators import param, random_variable
    >>> mu = random_variable(lambda: Normal(0.0, 1.0))
    >>> x = random_variable(lambda: Normal(mu(), 1.0))
    >>> phi = param(lambda: torch.zeros(2))
    >>> q = random_variable(lambda: Normal(phi()[0], phi()[1].exp()))
    >>> vi = VariationalInfer({mu(): q()}, {x(): torch.tensor(2.0)})
    >>> world = vi.infer(num_steps=300, num_samples=8)
    >>> bool((world.get_guide_distribution(mu()).mean - 1.0).abs() < 0.1)
    True

    Args:
        queries_to_guides: which guide, a random variable with params, stands for which latent. A tuple of latents may
            share one guide over their concatenated unconstrained coordinates.
        observations: observed values.
        optimizer: makes an optimizer from an iterable of params.
        device: where the observations are moved; by default they stay where they are.
        local: latents that belong to rows of the data, for `subsample_factor`.
        averaging: about which part of the iterates, the last ones, `averaged` is the average of; 0: the last one.

    Attributes:
        params: the params, guides' and model's, as they are now.
        averaged: the averages of their last values (`vi_dist.vi.averaging`), empty where there is no averaging.
        skipped_steps: how many steps were not taken because the loss or a gradient was not finite.

    Raises `ModelError`, on construction, for a latent without a guide, a guide that does not fit its latent, and
    observations that their distributions cannot give.
    """

    def __init__(
        self,
        queries_to_guides: Mapping[Query, RVIdentifier],
        observations: RVDict,
        optimizer: MakeOptimizer = default_optimizer,
        device: torch.device | str | None = None,
        local: Sequence[RVIdentifier] = (),
        averaging: float = 0.0,
    ) -> None:
        self.queries_to_guides = GuideMap.of(queries_to_guides)
        self.observations: RVDict = {
            node: value if device is None else value.to(device) for node, value in observations.items()
        }
        self.params: dict[RVIdentifier, Tensor] = {}
        self.averaged: dict[RVIdentifier, Tensor] = {}
        self.averaging = checked_part(averaging)
        self._steps = 0
        self.skipped_steps = 0
        self._device = torch.device(device) if device is not None else None
        self._local = tuple(local)
        self._make_optimizer = optimizer
        check_guides(self.queries_to_guides, self.observations, self.params)
        self._optimized = set(self.params)
        self._optimizer = optimizer(self.params.values()) if self.params else None

    def infer(
        self,
        num_steps: int,
        num_samples: int = 1,
        discrepancy_fn: DiscrepancyFn = kl_reverse,
        mc_approx: Callable[..., Tensor] = monte_carlo_approximate_reparam,
        step_callback: StepCallback | None = None,
        subsample_factor: float = 1.0,
    ) -> VariationalWorld:
        """Take `num_steps` steps and return a world with the fitted guides.

        Args:
            num_steps: number of optimizer steps.
            num_samples: S, draws per step.
            discrepancy_fn: g, elementwise in l = log p - log q.
            mc_approx: the gradient estimator, with the signature of `monte_carlo_approximate_reparam`.
            step_callback: called after every step with its number, its loss and this object.
            subsample_factor: the share of the data that is observed, 0 < f <= 1.
        """
        for step in range(num_steps):
            loss = self.step(num_samples, discrepancy_fn, mc_approx, subsample_factor)
            if step_callback is not None:
                step_callback(step, loss, self)
        return self.initialize_world()

    def step(
        self,
        num_samples: int = 1,
        discrepancy_fn: DiscrepancyFn = kl_reverse,
        mc_approx: Callable[..., Tensor] = monte_carlo_approximate_reparam,
        subsample_factor: float = 1.0,
    ) -> Tensor:
        """One optimizer step; returns the objective before it, detached. Arguments as in `infer`.

        A step whose loss or gradients are not finite is not taken, but counted and (once) warned of.
        """
        evaluate = partial(self._evaluate, num_samples, discrepancy_fn, mc_approx, subsample_factor)
        loss, finite = evaluate()
        if not finite:
            self._skip(loss)
        elif self._optimizer is not None:
            self._advance(loss, evaluate)
        if self.averaging:
            self._average()
        return loss

    def initialize_world(self) -> VariationalWorld:
        """A world drawn from the guides at the params, averaged if asked, of which it keeps a copy without gradients.

        The draw is used as it comes: rejecting improbable ones would truncate the guides.
        """
        params = {key: self.averaged.get(key, value).detach().clone() for key, value in self.params.items()}
        world = VariationalWorld(self.observations, params=params, queries_to_guides=self.queries_to_guides)
        with unvalidated():
            for node in (*self.queries_to_guides.queries, *self.observations):
                world.call(node)
        return world

    def _average(self) -> None:
        """Let the averages follow the params."""
        self._steps += 1
        weight = average_weight(self._steps, self.averaging)
        for key, param in self.params.items():
            now = param.detach()
            self.averaged[key] = torch.lerp(self.averaged.get(key, now), now, weight)

    def _evaluate(
        self,
        num_samples: int,
        discrepancy_fn: DiscrepancyFn,
        mc_approx: Callable[..., Tensor],
        subsample_factor: float,
    ) -> tuple[Tensor, bool]:
        """The loss, with its gradient in the params, and whether both are finite."""
        for param in self.params.values():
            param.grad = None
        local = {"local": self._local} if self._local else {}
        loss = mc_approx(
            self.observations,
            num_samples,
            discrepancy_fn,
            self.params,
            self.queries_to_guides,
            subsample_factor=subsample_factor,
            device=self._device,
            **local,
        )
        if loss.requires_grad:
            loss.backward()
        self._adopt_new_params()
        gradients = [param.grad for param in self.params.values() if param.grad is not None]
        finite = all(bool(torch.isfinite(tensor).all()) for tensor in (loss.detach(), *gradients))
        return loss.detach(), finite

    def _adopt_new_params(self) -> None:
        """Hand the optimizer the params that the last evaluation met for the first time."""
        new = [key for key in self.params if key not in self._optimized]
        if not new:
            return
        tensors = [self.params[key] for key in new]
        if self._optimizer is None:
            self._optimizer = self._make_optimizer(tensors)
        elif isinstance(self._optimizer, torch.optim.LBFGS):
            raise ModelError(
                f"param {new[0]} appeared after the first step and LBFGS cannot take it up; use another optimizer, or "
                "make the model or guide call it from the start",
                key="optimizer",
            )
        else:
            self._optimizer.add_param_group({"params": tensors})
        self._optimized.update(new)

    def _advance(self, loss: Tensor, evaluate: Callable[[], tuple[Tensor, bool]]) -> None:
        """Let the optimizer use the gradients at hand; one that asks for more evaluations (LBFGS) gets them."""
        assert self._optimizer is not None
        again = isinstance(self._optimizer, torch.optim.LBFGS)
        before = [param.detach().clone() for param in self.params.values()] if again else []
        pending, failed = [loss], []

        def closure() -> Tensor:
            if pending:
                return pending.pop()
            value, finite = evaluate()
            if not finite:
                failed.append(value)
            return value

        self._optimizer.step(closure)  # type: ignore[arg-type]  # torch's stub wants a float
        if failed:
            with torch.no_grad():
                for param, value in zip(self.params.values(), before, strict=True):
                    param.copy_(value)
            self._optimizer.state.clear()
            self._skip(failed[0])

    def _skip(self, loss: Tensor) -> None:
        self.skipped_steps += 1
        for param in self.params.values():
            param.grad = None
        if self.skipped_steps == 1:
            what = "loss" if not bool(torch.isfinite(loss).all()) else "gradient"
            warnings.warn(
                f"the {what} is not finite (loss {loss.item():.6g}); such steps are skipped and counted in "
                "skipped_steps, without further warnings",
                RuntimeWarning,
                stacklevel=3,
            )
