"""How many points of a curve go to MLflow: its pages draw 320, and storing them all takes minutes."""

from __future__ import annotations

MOST = 320
"""Points that MLflow's pages draw of one curve."""
FEWEST = 40
"""Points that still show a curve's shape on a logarithmic axis."""
MANY_RUNS = 512
"""Runs of which nobody looks at each: from here on a sweep's points grow no more, and each run has fewer."""
LEAST = 6
"""Points of a curve among very many: with its index each point takes 300 bytes in sqlite."""
TOTAL = 256 * FEWEST
"""Points of one metric over all runs: 256 runs of three metrics at 40 points took 5 s to store in sqlite."""


def kept_steps(steps: int, runs: int) -> list[int]:
    """The steps whose values are stored: log-spaced, distinct, ascending, the first and the last among them.

    Steps count from 1 to ``steps``. At most 320 for a few runs, 40 for 256 to 512, down to 6 for thousands.

    >>> kept_steps(6, runs=1)
    [1, 2, 3, 4, 5, 6]
    >>> kept = kept_steps(2000, runs=256)
    >>> len(kept), kept[0], kept[-1]
    (40, 1, 2000)
    >>> kept_steps(2000, runs=10_000)
    [1, 5, 22, 99, 445, 2000]
    """
    budget = min(MOST, max(FEWEST, TOTAL // max(1, runs)))
    if runs > MANY_RUNS:
        budget = max(LEAST, MANY_RUNS * FEWEST // runs)
    if steps <= budget:
        return list(range(1, steps + 1))
    kept = [1]
    while len(kept) < budget:
        # The ratio is taken anew each time, so that the early steps, where rounding forces whole steps, do
        # not use up the budget of the later ones.
        ratio = (steps / kept[-1]) ** (1 / (budget - len(kept)))
        kept.append(max(kept[-1] + 1, round(kept[-1] * ratio)))
    return kept
