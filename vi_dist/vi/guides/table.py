"""The guide families by name; `make(space, **arguments)` gives the family over those coordinates.

Traits: `point`, trained as a point, without density until it is settled, so that only a falling divergence makes sense.
"""

from __future__ import annotations

from vi_dist.vi.guides.delta import DeltaFamily
from vi_dist.vi.guides.flow import maf, nsf, realnvp
from vi_dist.vi.guides.full_rank import FullRank
from vi_dist.vi.guides.laplace import Laplace
from vi_dist.vi.guides.low_rank import LowRank
from vi_dist.vi.guides.mean_field import MeanField
from vi_dist.vi.guides.mixture import Mixture
from vi_dist.vi.guides.structured import Structured
from vi_dist.vi.guides.student_t import student_t
from vi_dist.vi.guides.whitened import whitenable
from vi_dist.vi.table import Argument, Entry

_POINT = frozenset({"point"})


def _count(default: int, description: str, low: int = 1, high: int = 1024) -> Argument:
    return Argument(int, default, low=low, high=high, description=description)


def _layers(transforms: int) -> dict[str, Argument]:
    return {
        "transforms": _count(transforms, "number of layers", high=32),
        "hidden": _count(32, "width of the two hidden layers of each network"),
    }


_FULL = Argument(bool, False, description="full-rank scales in place of independent ones")
_WHITEN = {
    "whiten": Argument(bool, False, description="live where the Laplace approximation is standard normal")
}
_GROUPS = "groups of coordinates that a layer tells apart: 2 is coupling, 0 all (16 at most)"

GUIDES: dict[str, Entry] = {
    entry.name: entry
    for entry in (
        Entry(
            "mean_field",
            "independent Gaussians in unconstrained space (ADVI)",
            whitenable(MeanField),
            _WHITEN,
        ),
        Entry(
            "full_rank",
            "one multivariate Gaussian over all unconstrained coordinates",
            whitenable(FullRank),
            _WHITEN,
        ),
        Entry(
            "low_rank",
            "Gaussian with a few directions of correlation",
            whitenable(LowRank),
            {"rank": Argument(int, low=1, high=1024, description="number of directions"), **_WHITEN},
        ),
        Entry(
            "structured",
            "Gaussian, full-rank within a latent, a few directions of dependence between latents",
            Structured,
            {
                "rank": _count(1, "number of messages between blocks"),
                "blocks": Argument(
                    str,
                    "",
                    description="groups of latents: [[mu, tau], [theta]], or as text mu + tau | theta",
                ),
            },
        ),
        Entry(
            "student_t",
            "Student-t: heavier tails, for forward and power divergences",
            whitenable(student_t),
            {
                "df": Argument(float, 5.0, low=1.0, high=1e6, description="degrees of freedom"),
                "full_rank": _FULL,
                **_WHITEN,
            },
        ),
        Entry(
            "mixture",
            "equally weighted Gaussians: several modes, skewness",
            whitenable(Mixture),
            {"components": _count(2, "number of Gaussians", high=256), "full_rank": _FULL, **_WHITEN},
        ),
        Entry("laplace", "Gaussian by the curvature at the mode (Laplace)", Laplace, traits=_POINT),
        Entry(
            "realnvp",
            "flow of affine coupling layers on a full-rank Gaussian",
            whitenable(realnvp),
            {**_layers(3), **_WHITEN},
        ),
        Entry(
            "maf",
            "flow of affine autoregressive layers on a full-rank Gaussian",
            whitenable(maf),
            {**_layers(3), "groups": _count(0, _GROUPS, low=0), **_WHITEN},
        ),
        Entry(
            "nsf",
            "flow of spline layers on a full-rank Gaussian",
            whitenable(nsf),
            {
                **_layers(2),
                "bins": _count(8, "pieces of each spline", low=2, high=256),
                "groups": _count(2, _GROUPS, low=0),
                **_WHITEN,
            },
        ),
        Entry("delta", "point estimate: the mode in the model's own space (MAP)", DeltaFamily, traits=_POINT),
    )
}
