"""Guides in whitened coordinates: those in which the posterior's Laplace approximation is standard normal."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.distributions import Distribution

from vi_dist.vi.guides.family import INITIAL_SCALE, Family, Leaves, Scale
from vi_dist.vi.guides.guide_distribution import GuideDistribution
from vi_dist.vi.noise import NoiseSpace

if TYPE_CHECKING:
    from vi_dist.vi.laplace_scale import Mode
    from vi_dist.vi.log_joint import LogJoint

_CENTER, _ROOT = "whitening.center", "whitening.root"


class Whitened(Family):
    """z = m + R u with u from another family, m the mode and R R^T the inverse of minus the Hessian there.

    Whatever the model's units and correlations, u is then near a standard normal: one learning rate suits all
    coordinates of all models, and the simplest families have the posterior's correlations to begin with. A Gaussian of
    full rank is one in either coordinates; an independent one of u is a Gaussian of z with the directions of R.

    Until it is `placed` at a mode, and where there is none, z is u. The map is no parameter: `settle` puts it beside
    the leaves, so that a settled guide needs nothing else.

    Args:
        inner: the family of u.
        mode: m and R in float64.
        like: a tensor of the dtype and on the device of the steps.
    """

    def __init__(self, inner: Family, mode: Mode | None = None, like: Tensor | None = None) -> None:
        super().__init__(inner.space)
        self.inner, self._mode = inner, mode
        self._here = mode if mode is None or like is None else mode.to(like)

    @property
    def pace(self) -> Mapping[str, float]:
        return self.inner.pace

    @property
    def noise(self) -> NoiseSpace:
        return self.inner.noise

    @property
    def settled(self) -> Family:
        return Whitened(self.inner.settled)

    def placed(self, find: Callable[[], Mode | None], like: Tensor) -> Family:
        return Whitened(self.inner, find(), like)

    def settle(
        self, leaves: Leaves, model_params: Tensor, joint: LogJoint
    ) -> tuple[dict[str, Tensor], list[str]]:
        settled, remarks = self.inner.settle(_own(leaves), model_params, joint)
        center, root = self._map(leaves, model_params)
        columns = model_params.shape[0]
        found = {_CENTER: center.expand(columns, -1).clone(), _ROOT: root.expand(columns, -1, -1).clone()}
        if self._mode is None:
            remarks = [
                f"{remark} No mode was found: trained in plain coordinates.".lstrip() for remark in remarks
            ]
        return {**settled, **found}, remarks

    def initial(self, loc: Tensor, scale: Scale = INITIAL_SCALE) -> dict[str, Tensor]:
        if self._mode is None:
            return self.inner.initial(loc, scale)
        return self.inner.initial(torch.zeros_like(loc), 1.0)

    def stratify(self, noise: Tensor) -> Tensor:
        return self.inner.stratify(noise)

    def draw(self, leaves: Leaves, noise: Tensor) -> Tensor:
        u = self.inner.draw(_own(leaves), noise)
        center, root = self._map(leaves, u)
        return center[:, None] + u @ root.transpose(-1, -2)

    def log_prob(self, leaves: Leaves, z: Tensor) -> Tensor:
        center, root = self._map(leaves, z)
        u = torch.linalg.solve_triangular(root, (z - center[:, None]).transpose(-1, -2), upper=False)
        return self.inner.log_prob(_own(leaves), u.transpose(-1, -2)) - _log_det(root)[:, None]

    def density_of_draw(self, leaves: Leaves, noise: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
        _, root = self._map(leaves, z)
        with torch.no_grad():
            u = self.inner.draw(_own(leaves), noise)
        log_q, slope = self.inner.density_of_draw(_own(leaves), noise, u)
        pulled = torch.linalg.solve_triangular(root.transpose(-1, -2), slope.transpose(-1, -2), upper=True)
        return log_q - _log_det(root)[:, None], pulled.transpose(-1, -2)

    def checked_log_q(self, leaves: Leaves, noise: Tensor, z: Tensor) -> Tensor:
        own, (_, root) = _own(leaves), self._map(leaves, z)
        inner = self.inner.checked_log_q(own, noise, self.inner.draw(own, noise))
        return inner - _log_det(root)[:, None]

    def log_q_of_draw(self, leaves: Leaves, noise: Tensor) -> Tensor | None:
        inner = self.inner.log_q_of_draw(_own(leaves), noise)
        _, root = self._map(leaves, noise)
        return None if inner is None else inner - _log_det(root)[:, None]

    def distribution(self, leaves: Leaves) -> Distribution:
        return GuideDistribution(self, leaves)

    def _map(self, leaves: Leaves, like: Tensor) -> tuple[Tensor, Tensor]:
        """m `(C or 1, d)` and R `(C or 1, d, d)`: among settled leaves, else where the guide was placed."""
        if _CENTER in leaves:
            return leaves[_CENTER], leaves[_ROOT]
        if self._mode is None or self._here is None:
            identity = torch.eye(self.size, dtype=like.dtype, device=like.device)
            return torch.zeros_like(identity[:1]), identity[None]
        ready = (self._here.loc.dtype, self._here.loc.device) == (like.dtype, like.device)
        mode = self._here if ready else self._mode.to(like)
        return mode.loc[None], mode.root[None]


def _own(leaves: Leaves) -> dict[str, Tensor]:
    """The inner family's leaves."""
    return {name: leaf for name, leaf in leaves.items() if name not in (_CENTER, _ROOT)}


def whitenable(make: Callable[..., Family]) -> Callable[..., Family]:
    """A maker of families with one more argument, `whiten`."""

    def made(space: NoiseSpace, whiten: bool = False, **arguments: Any) -> Family:
        family = make(space, **arguments)
        return Whitened(family) if whiten else family

    return made


def _log_det(root: Tensor) -> Tensor:
    return root.diagonal(dim1=-2, dim2=-1).log().sum(-1)
