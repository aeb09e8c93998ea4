"""Choosing a variational approximation at cluster scale.

The public names below are resolved when they are first used (PEP 562): importing ``vi_dist`` brings in neither
torch, Ray nor MLflow.

>>> import vi_dist
>>> vi_dist.SpecError("unknown guide 'mean_feild'", key="space.guide[0]", allowed=["mean_field"]).key
'space.guide[0]'
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vi_dist.api.experiment import Experiment
    from vi_dist.api.fit import Fit
    from vi_dist.api.sweep_result import SweepResult
    from vi_dist.errors import ModelError, SpecError
    from vi_dist.model.decorators import functional, param, random_variable
    from vi_dist.model.delta import Delta
    from vi_dist.model.identifier import RVIdentifier
    from vi_dist.model.initialize import init_from_prior, init_to_uniform
    from vi_dist.model.model import Model
    from vi_dist.model.rv_dict import RVDict
    from vi_dist.model.seeding import seed
    from vi_dist.model.world import World
    from vi_dist.vi.autoguide import ADVI, MAP, AutoGuideVI, FullRankADVI
    from vi_dist.vi.discrete import monte_carlo_approximate_enumerated, monte_carlo_approximate_mixed
    from vi_dist.vi.divergences import amari, kl_forward, kl_reverse
    from vi_dist.vi.monte_carlo import monte_carlo_approximate_reparam, monte_carlo_approximate_sf
    from vi_dist.vi.variational_infer import VariationalInfer
    from vi_dist.vi.variational_world import VariationalWorld

__all__ = [
    "ADVI",
    "MAP",
    "AutoGuideVI",
    "Delta",
    "Experiment",
    "Fit",
    "FullRankADVI",
    "Model",
    "ModelError",
    "RVDict",
    "RVIdentifier",
    "SpecError",
    "SweepResult",
    "VariationalInfer",
    "VariationalWorld",
    "World",
    "amari",
    "functional",
    "init_from_prior",
    "init_to_uniform",
    "kl_forward",
    "kl_reverse",
    "monte_carlo_approximate_enumerated",
    "monte_carlo_approximate_mixed",
    "monte_carlo_approximate_reparam",
    "monte_carlo_approximate_sf",
    "param",
    "random_variable",
    "seed",
]

# The same names as in the imports for type checkers above; a test compares the two.
_HOME = {
    "ADVI": "vi.autoguide",
    "MAP": "vi.autoguide",
    "AutoGuideVI": "vi.autoguide",
    "Delta": "model.delta",
    "Experiment": "api.experiment",
    "Fit": "api.fit",
    "FullRankADVI": "vi.autoguide",
    "Model": "model.model",
    "ModelError": "errors",
    "RVDict": "model.rv_dict",
    "RVIdentifier": "model.identifier",
    "SpecError": "errors",
    "SweepResult": "api.sweep_result",
    "VariationalInfer": "vi.variational_infer",
    "VariationalWorld": "vi.variational_world",
    "World": "model.world",
    "amari": "vi.divergences",
    "functional": "model.decorators",
    "init_from_prior": "model.initialize",
    "init_to_uniform": "model.initialize",
    "kl_forward": "vi.divergences",
    "kl_reverse": "vi.divergences",
    "monte_carlo_approximate_enumerated": "vi.discrete",
    "monte_carlo_approximate_mixed": "vi.discrete",
    "monte_carlo_approximate_reparam": "vi.monte_carlo",
    "monte_carlo_approximate_sf": "vi.monte_carlo",
    "param": "model.decorators",
    "random_variable": "model.decorators",
    "seed": "model.seeding",
}


def __getattr__(name: str) -> object:
    """Import the module a public name lives in, once."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value: object = getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """List the public names beside what is already loaded."""
    return sorted({*globals(), *__all__})
