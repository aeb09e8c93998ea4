"""What a guide family is: how it draws from noise, and its log density; everything batched over configurations."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor
from torch.distributions import Distribution

from vi_dist.vi.noise import NoiseSite, NoiseSpace, NormalSource

if TYPE_CHECKING:
    from vi_dist.vi.laplace_scale import Mode
    from vi_dist.vi.log_joint import LogJoint

INITIAL_SCALE = 0.1

Scale = float | Tensor
"""Standard deviations, one for all coordinates or `(d,)`."""
# The purpose under which leaves get their first values: no purpose of a fit.
_INITIAL = 101

Leaves = Mapping[str, Tensor]


class Family(ABC):
    """A guide family over d unconstrained coordinates.

    Its parameters ("leaves") are named tensors; in the methods they carry a leading axis of C configurations, and the
    guide of configuration c reads row c only.

    Args:
        space: the d coordinates, grouped by latent, in order.

    Attributes:
        jacobian: whether the objective's joint is that of the unconstrained coordinates (log |J| included). A point
            estimate wants the mode in the model's own space and leaves it out.
        has_density: whether log q exists, and with it an ELBO.
    """

    jacobian: ClassVar[bool] = True
    has_density: ClassVar[bool] = True

    def __init__(self, space: NoiseSpace) -> None:
        self.space = space
        self.size = space.size

    @property
    def noise(self) -> NoiseSpace:
        """The normals behind one sample, E of them; a family that needs more than one a coordinate appends sites."""
        return self.space

    @property
    def pace(self) -> Mapping[str, float]:
        """By leaf, what its learning rate is multiplied with; 1 for a leaf that is not named.

        A step is to move the distribution by about the learning rate; of a leaf with very many entries each must then
        move less.
        """
        return {}

    @property
    def settled(self) -> Family:
        """The family of the leaves that `settle` returns, which is the one to evaluate, save and draw from."""
        return self

    def placed(self, find: Callable[[], Mode | None], like: Tensor) -> Family:
        """The family to train, for one that lives around the model's mode, which `find` finds if there is one.

        `like` has the dtype and is on the device of the steps.
        """
        return self

    def settle(
        self, leaves: Leaves, model_params: Tensor, joint: LogJoint
    ) -> tuple[dict[str, Tensor], list[str]]:
        """What is left to do once after the last step, for a family whose steps find only part of its guide.

        Args:
            leaves: trained leaves, `(C, *shape)`.
            model_params: the model's own params, flat, `(C, p)`.
            joint: the log joint over rows that the guide is for, in the dtype to compute in.

        Returns:
            The leaves of `settled`, and for every configuration a remark for its user, empty where there is none.
        """
        return dict(leaves), [""] * model_params.shape[0]

    @abstractmethod
    def initial(self, loc: Tensor, scale: Scale = INITIAL_SCALE) -> dict[str, Tensor]:
        """Leaves, without the leading axis, of a guide centred at loc `(d,)` with the given standard deviations."""

    def stratify(self, noise: Tensor) -> Tensor:
        """The noise `(C, S, E)` of one training step rearranged so that its S samples cover the guide evenly.

        A mean over the samples keeps its expectation; samples are no longer independent of each other.
        """
        return noise

    @abstractmethod
    def draw(self, leaves: Leaves, noise: Tensor) -> Tensor:
        """Unconstrained samples `(C, S, d)` from standard normals `(C, S, E)`, differentiable in the leaves."""

    @abstractmethod
    def log_prob(self, leaves: Leaves, z: Tensor) -> Tensor:
        """Log densities `(C, S)` at z `(C, S, d)`, differentiable in both."""

    def density_of_draw(self, leaves: Leaves, noise: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
        """log q `(C, S)` at the guide's own draws z and its gradient in z `(C, S, d)`, leaves held fixed; detached.

        A family that knows its noise need not invert itself to find it.
        """
        with torch.enable_grad():
            live = z.detach().requires_grad_()
            log_q = self.log_prob(leaves, live)
            slope = torch.zeros_like(z)
            if self.has_density:
                (slope,) = torch.autograd.grad(log_q.sum(), live)
        return log_q.detach(), slope

    def log_q_of_draw(self, leaves: Leaves, noise: Tensor) -> Tensor | None:
        """log q `(C, S)` at the guide's own draws as a function of leaves and noise alone, differentiable in both.

        None where that is no simpler than `log_prob` of a draw.
        """
        return None

    def checked_log_q(self, leaves: Leaves, noise: Tensor, z: Tensor) -> Tensor:
        """log q `(C, S)` at the guide's own draws z, for evaluation: NaN where it is not known to within a nat.

        A family takes it from the noise, which is exact, as far as it can; what it has to solve for, it bounds the
        rounding error of.
        """
        log_q = self.log_q_of_draw(leaves, noise)
        return self.density_of_draw(leaves, noise, z)[0] if log_q is None else log_q

    @abstractmethod
    def distribution(self, leaves: Leaves) -> Distribution:
        """One guide (leaves without the leading axis) as a torch distribution with event shape `(d,)`."""


def inverse_softplus(scale: float) -> float:
    """x with softplus(x) = scale."""
    return float(_inverse_softplus(torch.tensor(scale, dtype=torch.float64)))


def raw_scales(scale: Scale, loc: Tensor) -> Tensor:
    """x `(d,)`, like loc, with softplus(x) = scale."""
    wide = torch.as_tensor(scale, dtype=torch.float64, device=loc.device)
    return _inverse_softplus(wide).to(loc).expand_as(loc).clone()


def _inverse_softplus(scale: Tensor) -> Tensor:
    # Of a large scale it is the scale itself, and e to it is infinite.
    return torch.where(scale > 30, scale, scale.expm1().log())


def fixed_normals(name: str, shape: tuple[int, ...], like: Tensor) -> Tensor:
    """Standard normals of a shape that depend on the name alone: first values for parts that would stay equal."""
    size = torch.Size(shape).numel()
    source = NormalSource(NoiseSpace((NoiseSite(name, size),)), [0], torch.float64, like.device)
    numbers = source(_INITIAL, torch.zeros(1, 1, device=like.device), 1)
    return numbers.reshape(shape).to(like.dtype)
