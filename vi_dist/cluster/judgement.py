"""The end of a configuration: its guide settled, evaluated, and put into one word and one sentence."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from vi_dist.cluster.task import Outcome
from vi_dist.evaluation.convergence import DRAWS, FEWEST_STEPS, Convergence, compare
from vi_dist.evaluation.evaluate import Evaluation, Evaluator, summarise
from vi_dist.sweep.configuration import Configuration
from vi_dist.vi.guides.family import Family
from vi_dist.vi.layout import Layout
from vi_dist.vi.log_joint import LogJoint
from vi_dist.vi.pack import PackProgram
from vi_dist.vi.state import PackState
from vi_dist.vi.step import MAX_STREAK

_F64 = torch.float64
_NOT_EVALUATED = Evaluation(math.nan, math.nan, math.nan, math.nan, 0)


@dataclass(frozen=True)
class Fitted:
    """A guide's leaves and the model's params `(p,)`, of one configuration."""

    leaves: Mapping[str, Tensor]
    params: Tensor

    @property
    def finite(self) -> bool:
        """Whether all of its numbers are."""
        return all(bool(one.isfinite().all()) for one in (*self.leaves.values(), self.params))

    def wide(self) -> tuple[dict[str, Tensor], Tensor]:
        """The same in float64, with a leading axis."""
        return {name: leaf[None].to(_F64) for name, leaf in self.leaves.items()}, self.params[None].to(_F64)


class Judge:
    """Turns the last state of configurations of one guide family into outcomes, each by itself.

    So an outcome depends neither on the neighbours in the pack nor on its width.

    Args:
        layout: the model's coordinates.
        family: the guide family that was trained.
        joint: the model's log joint in float64, with the Jacobian if the family wants it.
        evaluator: of the settled family.
    """

    def __init__(self, layout: Layout, family: Family, joint: LogJoint, evaluator: Evaluator) -> None:
        self._layout, self._family, self._joint, self._evaluator = layout, family, joint, evaluator

    def __call__(
        self,
        configuration: Configuration,
        state: PackState,
        row: int,
        end: Fitted,
        halfway: Fitted,
        weights: tuple[Tensor, Tensor] | None = None,
    ) -> Outcome:
        """The outcome of a configuration that has no step left.

        Args:
            configuration, state, row: which, and how it got there.
            end, halfway: its guide there, and after half of its steps.
            weights: log weights `(N,)` of both, where others than the evaluator know them.
        """
        found, remark, kept, course = _NOT_EVALUATED, "", dict(end.leaves), None
        uncertain = 0
        if end.finite and not has_diverged(state, row):
            wide, own = end.wide()
            settled, (remark,) = self._family.settle(wide, own, self._joint)
            kept = {name: leaf[0].to(end.params.dtype) for name, leaf in settled.items()}
            last = None if weights is None else weights[0]
            if last is None and self._family.settled.has_density:
                last = self._evaluator.log_weights(settled, own)[0]
            if last is not None:
                found = summarise(last)
                if math.isnan(found.elbo):
                    (uncertain,) = self._evaluator.uncertain_draws(settled)
            if is_whole(configuration, state, row):
                course = self._course(halfway, end, settled, last, None if weights is None else weights[1])
        has_density = self._family.settled.has_density
        status, reason = judge(configuration, state, row, end.finite, has_density, found, course, uncertain)
        return Outcome(
            status=status,
            reason=f"{reason} {remark}".rstrip(),
            steps=int(state.step[row]),
            skipped=int(state.skipped[row]),
            elbo=found.elbo,
            elbo_se=found.elbo_se,
            iw_elbo=found.iw_elbo,
            khat=found.khat,
            draws=found.samples,
            ess=found.ess,
            **course_numbers(course),
            leaves={name: leaf.clone() for name, leaf in kept.items()},
            model_params=named_params(self._layout, end.params),
        )

    def _course(
        self,
        halfway: Fitted,
        end: Fitted,
        settled: Mapping[str, Tensor],
        last: Tensor | None,
        earlier: Tensor | None,
    ) -> Convergence | None:
        """How far the fit went in its second half; None where only what comes after the last step decides."""
        if not self._family.has_density:
            return None if last is not None else compare(self._point(halfway), self._point(end))
        assert last is not None, "a guide with a density"
        count, (before, own) = min(DRAWS, self._evaluator.samples), halfway.wide()
        before, _ = self._family.settle(before, own, self._joint)
        if earlier is None:
            earlier = self._evaluator.log_weights(before, own, count)[0]
        there, here = (self._evaluator.draws(leaves, count)[0] for leaves in (before, settled))
        return compare((earlier, there), (last[:count], here))

    def _point(self, at: Fitted) -> tuple[Tensor, Tensor]:
        """Log joint `(1,)` and coordinates `(1, d)` of a point estimate."""
        leaves, own = at.wide()
        z = self._family.draw(leaves, own.new_zeros(1, 1, self._family.noise.size))[0]
        with torch.no_grad():
            return self._joint.value(torch.cat((z, own), -1)), z


def is_whole(configuration: Configuration, state: PackState, row: int) -> bool:
    """Whether a configuration has taken all its steps, and so many that their halves can be compared."""
    return FEWEST_STEPS <= configuration.steps <= int(state.step[row])


def has_diverged(state: PackState, row: int) -> bool:
    """Whether a configuration was given up, or not one of its steps had a finite loss and gradient."""
    return not bool(state.alive[row]) or 0 < int(state.step[row]) == int(state.skipped[row])


def course_numbers(course: Convergence | None) -> dict[str, Any]:
    """What an outcome tells of convergence."""
    if course is None:
        return {}
    converged = "yes" if course.reached else "no"
    return {"converged": converged, "elbo_change": course.change, "moved": course.moved}


def judge(
    configuration: Configuration,
    state: PackState,
    row: int,
    finite: bool,
    has_density: bool,
    found: Evaluation,
    course: Convergence | None = None,
    uncertain: int = 0,
) -> tuple[str, str]:
    """Status and reason of a configuration that has no step left, whose params are finite or not.

    `uncertain`: of its evaluation's draws, those whose log q is not known to within a nat.
    """
    step, skipped = int(state.step[row]), int(state.skipped[row])
    if has_diverged(state, row):
        return "diverged", diverged_reason(step, configuration.steps, skipped)
    if not finite:
        return "diverged", f"Diverged within {step} steps: its parameters are not finite."
    if uncertain:
        return "diverged", (
            f"Diverged within {step} steps: rounding errors leave the guide's log density at {uncertain} of "
            f"{found.samples} draws unknown by more than a nat, because its scales are too ill-conditioned to invert, "
            "so it has no ELBO; a smaller learning rate may help."
        )
    reason = f"Took all {step} steps."
    if skipped:
        reason = f"Took all {step} steps, of which {skipped} had no finite gradient and changed nothing."
    if course is not None:
        reason = f"{reason} {course.sentence}"
    if not has_density:
        return "finished", f"{reason} A point estimate has no density, hence no ELBO."
    if not math.isfinite(found.elbo):
        return "finished", f"{reason} Its ELBO is not finite: some draws have no density under the model."
    return "finished", reason


def diverged_reason(step: int, steps: int, skipped: int) -> str:
    """Why a configuration was given up, of whose steps so many had no finite gradient."""
    if step == skipped:
        return (
            f"Diverged: none of its {step} steps had a finite loss and gradient, so it stayed where it started; start "
            "elsewhere (initialisation, initial_values), or look for draws at which the model has no density."
        )
    return (
        f"Diverged at step {step} of {steps}: loss or gradient was not finite in {MAX_STREAK} steps in a row; "
        "a smaller learning rate may help."
    )


def fitted(program: PackProgram, params: Tensor) -> list[Fitted]:
    """The guides of a pack's params `(C, P)`, one by one."""
    leaves = {name: leaf.cpu() for name, leaf in program.leaves(params).items()}
    own = program.model_params(params).cpu()
    return [Fitted({name: leaf[row] for name, leaf in leaves.items()}, own[row]) for row in range(len(own))]


def named_params(layout: Layout, flat: Tensor) -> dict[str, Tensor]:
    """The model's params by name, from their flat vector `(p,)`."""
    whole = torch.cat((flat.new_zeros(layout.size), flat))
    return {site.name: site.take(whole).clone() for site in layout.params}
