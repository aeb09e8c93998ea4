"""Limits in seconds: of a sweep, and of a configuration. What they end depends on the machine, unlike anything else."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from vi_dist.cluster.pack_run import PackRun


@dataclass(frozen=True)
class TimeLimits:
    """When to end packs before their last step.

    Args:
        sweep: seconds for the sweep; None for no limit.
        configuration: seconds for every configuration: its share of the time that its packs took.
        began: `time.perf_counter()` when the sweep began.
    """

    sweep: float | None = None
    configuration: float | None = None
    began: float = field(default_factory=time.perf_counter)

    @property
    def over(self) -> bool:
        """Whether the sweep's time is over."""
        return self.sweep is not None and time.perf_counter() - self.began >= self.sweep

    @property
    def sweep_reason(self) -> str:
        """Why configurations end when the sweep's time is over; for `PackRun.close`."""
        assert self.sweep is not None
        return f"Stopped after {{steps}} of {{of}} steps: the sweep's budget of {_minutes(self.sweep)} is used up."

    def reason(self, run: PackRun) -> str:
        """Why a pack has to end now, for `PackRun.close`; empty if it may go on."""
        if self.over:
            return self.sweep_reason
        if self.configuration is not None and max(run.shares()) >= self.configuration:
            return (
                "Stopped after {steps} of {of} steps: its share of its pack's time reached the limit of "
                f"{self.configuration:g} s."
            )
        return ""


def _minutes(seconds: float) -> str:
    return f"{seconds / 60:g} min"
