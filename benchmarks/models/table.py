"""All models of the benchmarks, by name, and what they are stepped with."""

from __future__ import annotations

from benchmarks.models import eight_schools, german_credit, logistic, neural_network, radon_mn
from benchmarks.models.case import Case

CASES: dict[str, Case] = {
    case.name: case
    for case in (
        german_credit.CASE,
        eight_schools.CASE,
        radon_mn.CASE,
        neural_network.CASE,
        logistic.CASE,
    )
}
GUIDES = ("mean_field", "full_rank")
# Numbers in one array of a step, samples times rows of data, beyond which a benchmark leaves a job out.
MAX_NUMBERS = 30_000_000
