"""Normalising flows of zuko as guides."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from functools import partial

import torch
from torch import Tensor
from torch.distributions import Distribution
from torch.func import functional_call

from vi_dist.errors import ModelError
from vi_dist.model.seeding import fixed_seed
from vi_dist.model.validation import unvalidated
from vi_dist.vi.guides.family import INITIAL_SCALE, Family, Leaves, Scale, fixed_normals
from vi_dist.vi.guides.full_rank import FullRank
from vi_dist.vi.guides.guide_distribution import GuideDistribution
from vi_dist.vi.guides.mean_field import LOG_SQRT_2PI, gaussian_of_draw
from vi_dist.vi.noise import NoiseSpace

# The last layers of the networks start so small: near, but not at, the identity.
_NEAR_IDENTITY = 0.01
# What the leaves of last layers are multiplied with. Splines that bend faster than loc and scale move get stuck.
_AFFINE, _SPLINE = 1.0, 0.1
# Groups of coordinates that an autoregressive layer tells apart at most; its inverse takes as many passes.
_GROUPS = 16
# Where layers tell more than two groups apart, the Jacobian of up to so many coordinates a group beats the inverse.
_DENSE = 3

Build = Callable[[int, int], torch.nn.Module]


class Flow(Family):
    """z = loc + s * (I + N) T(e): a flow T of standard normals e, then the affine map of `full_rank`.

    T starts near the identity, so that the guide starts as a full-rank Gaussian and contains them all. T goes from e to
    z in one pass of its networks, the inverse autoregressive direction (Kingma et al., arXiv 1606.04934), which makes
    draws cheap; log q(z), of own draws or of any other z, inverts T layer by layer, exactly, in one pass for every
    group of coordinates that a layer tells apart.

    Args:
        space: the coordinates.
        groups: groups of coordinates that a layer tells apart.
        build: the zuko transform for a number of coordinates and of groups.
        pace: what the leaves of last layers are multiplied with.
    """

    def __init__(self, space: NoiseSpace, groups: int, build: Build, pace: float) -> None:
        super().__init__(space)
        if groups == 1 and space.size > 1:
            raise ModelError(
                "groups is 1, and a layer that tells no coordinates apart lets none depend on another; write 2 or "
                "more, or 0 for as many as suit",
                key="guide",
            )
        groups = min(space.size, groups or _GROUPS)
        self._dense = groups > 2 and space.size <= _DENSE * groups
        self._affine = FullRank(space)
        with fixed_seed():
            self._module = _Directed(build(space.size, groups))
        self._shapes = {name: tuple(leaf.shape) for name, leaf in self._module.named_parameters()}
        self._last = _last_layers(self._shapes)
        self._gains = {
            name: _gain(name, shape) * (pace if name in self._last else 1.0)
            for name, shape in self._shapes.items()
        }

    @property
    def pace(self) -> Mapping[str, float]:
        return self._affine.pace

    def initial(self, loc: Tensor, scale: Scale = INITIAL_SCALE) -> dict[str, Tensor]:
        weights = {name: self._first_value(name, loc) for name in self._shapes}
        return {**self._affine.initial(loc, scale), **weights}

    def draw(self, leaves: Leaves, noise: Tensor) -> Tensor:
        return self._affine.draw(leaves, self._apply(leaves, noise, "draw")[0])

    def log_prob(self, leaves: Leaves, z: Tensor) -> Tensor:
        flowed, log_scale = self._affine.standardise(leaves, z)
        e, log_slope = self._apply(leaves, flowed, "invert")
        constant = log_scale + LOG_SQRT_2PI * self.size
        return -0.5 * (e * e).sum(-1) - log_slope - constant[:, None]

    def density_of_draw(self, leaves: Leaves, noise: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
        if not self._dense:
            return super().density_of_draw(leaves, noise, z)
        # From the noise nothing needs inverting: log q(z(e)) has a gradient in e, and that in z is J^-T times it, J the
        # Jacobian of T, row by row from as many copies of e ("path gradients", Vaitl et al., arXiv 2206.09016).
        c, s, d = noise.shape
        with torch.enable_grad():
            live = noise.detach().requires_grad_()
            log_slope = self._apply(leaves, live, "slope")[1]
            (bend,) = torch.autograd.grad(log_slope.sum(), live)
            copies = noise.detach()[:, :, None].expand(-1, -1, d, -1).reshape(c, s * d, d).requires_grad_()
            flowed = self._apply(leaves, copies, "draw")[0].reshape(c, s, d, d)
            (rows,) = torch.autograd.grad(flowed.diagonal(dim1=-2, dim2=-1).sum(), copies)
        jacobian = rows.reshape(c, s, d, d)
        slope = torch.linalg.solve_ex(jacobian.transpose(-1, -2), (-noise - bend)[..., None]).result[..., 0]
        return self._log_q(leaves, noise, log_slope.detach()), self._affine.pull_back(leaves, slope)

    def checked_log_q(self, leaves: Leaves, noise: Tensor, z: Tensor) -> Tensor:
        return self._log_q(leaves, noise, self._apply(leaves, noise, "slope")[1])

    def distribution(self, leaves: Leaves) -> Distribution:
        return GuideDistribution(self, leaves)

    def _log_q(self, leaves: Leaves, noise: Tensor, log_slope: Tensor) -> Tensor:
        """log q `(C, S)` of what T makes of the noise e, from log |det dT/de| there, `(C, S)`."""
        return gaussian_of_draw(leaves, noise) - log_slope

    def _apply(self, leaves: Leaves, x: Tensor, way: str) -> tuple[Tensor, ...]:
        """What `_Directed` gives one `way` at x `(C, S, d)`; each configuration by its own weights."""
        fixed = {name: buffer.to(x.device) for name, buffer in self._module.named_buffers()}

        def one(weights: dict[str, Tensor], rows: Tensor) -> tuple[Tensor, ...]:
            made: tuple[Tensor, ...] = functional_call(self._module, {**weights, **fixed}, (rows, way))
            return made

        weights = {name: leaves[name] * gain for name, gain in self._gains.items()}
        made: tuple[Tensor, ...] = torch.vmap(one)(weights, x)
        return made

    def _first_value(self, name: str, like: Tensor) -> Tensor:
        """Standard normals in hidden layers, biases included; in last layers small weights and no biases."""
        shape, last = self._shapes[name], name in self._last
        if name.endswith(".weight"):
            return fixed_normals(name, shape, like) * (_NEAR_IDENTITY if last else 1.0)
        if name.endswith(".bias") and not last:
            return fixed_normals(name, shape, like)
        return like.new_zeros(shape)


class _Directed(torch.nn.Module):
    """A lazy transform T whose call goes one way or another, as `functional_call` wants it."""

    def __init__(self, flow: torch.nn.Module) -> None:
        super().__init__()
        self.flow = flow

    def forward(self, x: Tensor, way: str) -> tuple[Tensor, ...]:
        """`draw`: T(x). `slope`: T(x) and log |det dT/dx|. `invert`: e with T(e) = x, and the log slope at e."""
        transform = self.flow(None)
        if way == "draw":
            return (transform(x),)
        if way == "slope":
            made: tuple[Tensor, Tensor] = transform.call_and_ladj(x)
            return made
        e = transform.inv(x)
        return e, transform.call_and_ladj(e)[1]


def _last_layers(names: Iterable[str]) -> set[str]:
    """The leaves of the last layer of every network, `prefix.<number>.weight` and `.bias`, and those of no network."""
    layer = {name: name.rsplit(".", 2)[:2] for name in names}
    last: dict[str, int] = {}
    for prefix, number in layer.values():
        last[prefix] = max(last.get(prefix, 0), int(number) if number.isdigit() else 0)
    return {name for name, (prefix, number) in layer.items() if number in (str(last[prefix]), "phi")}


def _gain(name: str, shape: tuple[int, ...]) -> float:
    """What a leaf is multiplied with before it acts: 1 / sqrt(inputs) for the weights of networks.

    So all leaves are of order 1 and one learning rate suits them, loc and scale (Jacot et al., arXiv 1806.07572, 1).
    """
    return 1 / math.sqrt(shape[-1]) if name.endswith(".weight") else 1.0


def maf(space: NoiseSpace, transforms: int = 3, hidden: int = 32, groups: int = 0) -> Flow:
    """Affine autoregressive layers, z_i = shift(e_<i) + e_i slope(e_<i) (Papamakarios et al., arXiv 1705.07057).

    Args:
        space: the coordinates.
        transforms: number of layers, each with the coordinates in the other order.
        hidden: width of the two hidden layers of each network.
        groups: groups of coordinates that a layer tells apart; 0: as many as there are, 16 at most.
    """
    return Flow(space, groups, partial(_transform, "MAF", transforms, hidden, {}), _AFFINE)


def realnvp(space: NoiseSpace, transforms: int = 3, hidden: int = 32) -> Flow:
    """Affine coupling layers: half of the coordinates moves by what the others say (Dinh et al., arXiv 1605.08803).

    Arguments as for `maf`; a coupling layer is an autoregressive one of two groups.
    """
    return Flow(space, 2, partial(_transform, "MAF", transforms, hidden, {}), _AFFINE)


def nsf(space: NoiseSpace, transforms: int = 2, hidden: int = 32, bins: int = 8, groups: int = 2) -> Flow:
    """Rational-quadratic spline layers on [-5, 5] in place of affine ones (Durkan et al., arXiv 1906.04032).

    Arguments as for `maf`, coupling layers by default, and the number of `bins` of each spline.
    """
    return Flow(space, groups, partial(_transform, "NSF", transforms, hidden, {"bins": bins}), _SPLINE)


def _transform(
    kind: str, transforms: int, hidden: int, arguments: dict[str, int], size: int, groups: int
) -> torch.nn.Module:
    """The transform of a zuko flow; raises `ModelError` where zuko is not installed."""
    try:
        with unvalidated():  # importing zuko switches value checks off, which here ends with the block
            import zuko
    except ImportError as error:
        raise ModelError(
            "flows come from zuko, which is not installed: pip install zuko", key="guide"
        ) from error
    # zuko's networks have ReLU units; smooth ones (tanh, ELU) learn a bend many times more slowly here.
    networks = {"hidden_features": (hidden, hidden), "passes": groups}
    # A single coordinate depends on no other: its layers have numbers of their own in place of networks.
    flow = getattr(zuko.flows, kind)(
        size, transforms=transforms, **arguments, **(networks if size > 1 else {})
    )
    transform: torch.nn.Module = flow.transform
    return transform
