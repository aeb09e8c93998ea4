"""The tables that specs choose from, and the rules between them."""

from __future__ import annotations

from vi_dist.api.affordable import check_guide
from vi_dist.cluster.columns import family
from vi_dist.errors import SpecError
from vi_dist.sweep.catalogue import AUTO, Catalogue
from vi_dist.sweep.configuration import Choice, Configuration
from vi_dist.vi.divergences import DIVERGENCES, Divergence
from vi_dist.vi.estimators import ESTIMATORS, check_combination, check_samples, choose
from vi_dist.vi.guides.table import GUIDES
from vi_dist.vi.initialisation import INITIALISATIONS
from vi_dist.vi.layout import Layout
from vi_dist.vi.optimizers import OPTIMIZERS
from vi_dist.vi.schedules import SCHEDULES


def catalogue(layout: Layout | None = None, initial_values: bool = False) -> Catalogue:
    """Every choice there is; with a model's layout, whatever its coordinates and params rule out is refused too.

    `initial_values`: whether there are any to start from.
    """
    return Catalogue(
        guides=GUIDES,
        divergences=DIVERGENCES,
        estimators=ESTIMATORS,
        optimizers=OPTIMIZERS,
        schedules=SCHEDULES,
        initialisations=INITIALISATIONS,
        resolve_estimator=_resolve_estimator,
        check=_Check(layout, initial_values),
    )


class _Check:
    """Refuses a combination that would train the wrong thing, and a guide that does not fit the model."""

    def __init__(self, layout: Layout | None, initial_values: bool) -> None:
        self._layout, self._initial_values = layout, initial_values
        self._fitting: set[Choice] = set()

    def __call__(self, configuration: Configuration) -> None:
        if configuration.initialisation.name == "values" and not self._initial_values:
            raise SpecError(
                "the initialisation values takes them from Python: Experiment.sweep(initial_values={...})",
                key="initialisation",
            )
        divergence = _divergence(configuration.divergence)
        estimator = ESTIMATORS[configuration.estimator.name].make(**dict(configuration.estimator.arguments))
        check_samples(divergence, estimator, configuration.num_samples)
        check_combination(
            divergence,
            estimator,
            has_density=_has_density(configuration.guide),
            model_params=self._layout is not None and bool(self._layout.params),
        )
        if self._layout is not None:
            _check_local(configuration, self._layout)
        if self._layout is not None and configuration.guide not in self._fitting:
            check_guide(configuration.guide, self._layout.size)
            family(configuration.guide, self._layout.noise)
            self._fitting.add(configuration.guide)


def _check_local(configuration: Configuration, layout: Layout) -> None:
    """Raise `SpecError` for a choice that needs the curvature of the log joint where some latents belong to rows."""
    guide, initialisation = configuration.guide, configuration.initialisation
    if not layout.local:
        return
    words = (
        "needs the curvature of the whole model, of which the latents of rows "
        f"({', '.join(site.name for site in layout.local)}) are no part"
    )
    if guide.name == "laplace" or dict(guide.arguments).get("whiten"):
        others = [name for name in GUIDES if name != "laplace"]
        raise SpecError(
            f"{guide} {words}; take one of the others as they are", key="space.guide", allowed=others
        )
    if initialisation.name in ("mode", "laplace"):
        raise SpecError(
            f"the initialisation {initialisation} {words}",
            key="initialisation",
            allowed=("prior_median", "values"),
        )


def _resolve_estimator(guide: Choice, divergence: Choice, estimator: Choice, samples: int) -> Choice:
    """What ``auto`` stands for with this guide, divergence and number of samples."""
    if estimator.name != AUTO:
        return estimator
    return Choice(choose(_divergence(divergence), has_density=_has_density(guide), samples=samples))


def _divergence(choice: Choice) -> Divergence:
    made: Divergence = DIVERGENCES[choice.name].make(**dict(choice.arguments))
    return made


def _has_density(guide: Choice) -> bool:
    """Whether the guide has a density while it is trained."""
    return "point" not in GUIDES[guide.name].traits
