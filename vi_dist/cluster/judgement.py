"""The end of a configuration: its guide settled, evaluated, and put into one word and one sentence."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from vi_dist.cluster.task import Outcome
from vi_dist.evaluation.evaluate import Evaluation
from vi_dist.sweep.configuration import Configuration
from vi_dist.vi.guides.family import Family
from vi_dist.vi.layout import Layout
from vi_dist.vi.log_joint import LogJoint
from vi_dist.vi.state import PackState
from vi_dist.vi.step import MAX_STREAK

Evaluate = Callable[[Mapping[str, Tensor], Tensor], Sequence[Evaluation]]

_NOT_EVALUATED = Evaluation(math.nan, math.nan, math.nan, math.nan, 0)


class Judge:
    """Turns the last state of configurations of one guide family into outcomes, each by itself.

    So an outcome depends neither on the neighbours in the pack nor on its width.

    Args:
        layout: the model's coordinates.
        family: the guide family that was trained.
        joint: the model's log joint in float64, with the Jacobian if the family wants it.
        evaluate: the evaluations of settled leaves and the model's params, each with an axis of configurations in front
            (`Evaluator`).
    """

    def __init__(self, layout: Layout, family: Family, joint: LogJoint, evaluate: Evaluate) -> None:
        self._layout, self._family, self._joint, self._evaluate = layout, family, joint, evaluate

    def __call__(
        self,
        configuration: Configuration,
        state: PackState,
        row: int,
        leaves: Mapping[str, Tensor],
        params: Tensor,
    ) -> Outcome:
        """The outcome of a configuration that has no step left, from its leaves and the model's params `(p,)`."""
        found, remark, kept = _NOT_EVALUATED, "", dict(leaves)
        finite = all(bool(one.isfinite().all()) for one in (*leaves.values(), params))
        if bool(state.alive[row]) and finite:
            wide = {name: leaf[None].to(torch.float64) for name, leaf in leaves.items()}
            own = params[None].to(torch.float64)
            settled, (remark,) = self._family.settle(wide, own, self._joint)
            found = self._evaluate(settled, own)[0]
            kept = {name: leaf[0].to(params.dtype) for name, leaf in settled.items()}
        status, reason = judge(configuration, state, row, finite, self._family.settled.has_density, found)
        return Outcome(
            status=status,
            reason=f"{reason} {remark}".rstrip(),
            steps=int(state.step[row]),
            skipped=int(state.skipped[row]),
            elbo=found.elbo,
            elbo_se=found.elbo_se,
            iw_elbo=found.iw_elbo,
            khat=found.khat,
            leaves={name: leaf.clone() for name, leaf in kept.items()},
            model_params=named_params(self._layout, params),
        )


def judge(
    configuration: Configuration,
    state: PackState,
    row: int,
    finite: bool,
    has_density: bool,
    found: Evaluation,
) -> tuple[str, str]:
    """Status and reason of a configuration that has no step left, whose params are finite or not."""
    step, skipped = int(state.step[row]), int(state.skipped[row])
    if not bool(state.alive[row]):
        return "diverged", diverged_reason(step, configuration.steps)
    if not finite:
        return "diverged", f"Diverged within {step} steps: its parameters are not finite."
    reason = f"Took all {step} steps."
    if skipped:
        reason = f"Took all {step} steps, of which {skipped} had no finite gradient and changed nothing."
    if not has_density:
        return "finished", f"{reason} A point estimate has no density, hence no ELBO."
    if not math.isfinite(found.elbo):
        return "finished", f"{reason} Its ELBO is not finite: some draws have no density under the model."
    return "finished", reason


def diverged_reason(step: int, steps: int) -> str:
    """Why a configuration was given up before its last step."""
    return (
        f"Diverged at step {step} of {steps}: loss or gradient was not finite in {MAX_STREAK} steps in a row; "
        "a smaller learning rate may help."
    )


def named_params(layout: Layout, flat: Tensor) -> dict[str, Tensor]:
    """The model's params by name, from their flat vector `(p,)`."""
    whole = torch.cat((flat.new_zeros(layout.size), flat))
    return {site.name: site.take(whole).clone() for site in layout.params}
