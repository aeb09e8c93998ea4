"""A fit as ArviZ's `InferenceData`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import Tensor

from vi_dist.api.draws import drawn_rows, predicted

if TYPE_CHECKING:
    from vi_dist.api.fitted_guide import FittedGuide


def inference_data(fit: FittedGuide, n: int, seed: int, resample: bool) -> Any:
    """n draws, predictions and observations of a fit; see `Fit.to_inference_data`."""
    import arviz as az

    rows = drawn_rows(fit, n, seed, resample)
    prepared = fit.ready()
    replicated = predicted(fit, rows, seed)
    observed = {
        str(node): value.detach().cpu().numpy() for node, value in prepared.model.observations.items()
    }
    return az.from_dict(
        posterior=_one_chain(prepared.constrain(rows)),
        posterior_predictive=_one_chain(replicated) or None,
        observed_data=observed or None,
        posterior_attrs={
            "inference_library": "vi_dist",
            "configuration": fit.name,
            "key": fit.key,
            "guide": fit.guide_name,
            "elbo": fit.elbo,
            "elbo_se": fit.elbo_se,
            "iw_elbo": fit.iw_elbo,
            "khat": fit.khat,
            "resampled": int(resample),  # netCDF has no booleans
        },
    )


def _one_chain(draws: dict[str, Tensor]) -> dict[str, Any]:
    """Arrays `(1, n, *shape)`: draws of a guide are one chain."""
    return {name: values.detach().cpu().numpy()[None] for name, values in draws.items()}
