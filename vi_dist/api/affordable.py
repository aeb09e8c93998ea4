"""What a sweep takes in steps and memory, counted before it starts, and refused where no machine has so much."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from vi_dist.errors import SpecError
from vi_dist.sweep.configuration import Choice, Configuration
from vi_dist.sweep.plan import Pack

MOST_STEPS = 10**9
"""Steps of all configurations together: the curves of so many take 32 GB."""
MOST_BYTES = 64 << 30
"""Memory of one step of a pack at most, by the estimate."""
MOST_NUMBERS = 1 << 27
"""Parameters of one guide at most."""


def check_guide(guide: Choice, coordinates: int) -> None:
    """Raise `SpecError` for a guide of more than `MOST_NUMBERS` parameters over so many coordinates."""
    if (numbers := guide_numbers(guide, coordinates)) > MOST_NUMBERS:
        raise SpecError(
            f"{guide} has about {numbers:,} parameters over {coordinates} coordinates, and at most "
            f"{MOST_NUMBERS:,} are fitted; give its arguments smaller values, or take mean_field",
            key="guide",
        )


def guide_numbers(guide: Choice, coordinates: int) -> int:
    """About how many parameters a guide has, from its arguments alone: making it would take the memory already."""
    given: Mapping[str, object] = dict(guide.arguments)

    def number(name: str) -> int:
        value = given.get(name)
        return value if isinstance(value, int) else 0

    full = guide.name in ("full_rank", "laplace") or bool(given.get("full_rank"))
    own = coordinates * ((coordinates if full or "hidden" in given else 1) + 2 + number("rank"))
    outputs = coordinates * max(2, 3 * number("bins"))
    width = number("hidden") if coordinates > 1 else 0  # a single coordinate has no networks
    layers = number("transforms") * (width * (coordinates + width) + max(1, width) * outputs)
    return own * max(1, number("components")) + layers


def check_affordable(
    configurations: Sequence[Configuration], packs: Sequence[Pack], row_bytes: int, copies: int
) -> None:
    """Raise `SpecError` for more steps than `MOST_STEPS`, or a pack whose step takes more than `MOST_BYTES`.

    Args:
        row_bytes: of the largest value of the model for one sample.
        copies: values of that size that live at once.
    """
    if (steps := sum(configuration.steps for configuration in configurations)) > MOST_STEPS:
        reason = f"all configurations take {steps:,} steps together, and a sweep at most {MOST_STEPS:,}"
        raise SpecError(f"{reason}; take fewer steps or fewer configurations", key="steps")
    for pack in packs:
        samples = configurations[pack.configurations[0]].num_samples
        if (size := pack.width * samples * row_bytes * copies) > MOST_BYTES:
            raise SpecError(
                f"a step of {pack.width} columns with {samples:,} samples each takes about {size / 2**30:,.0f} GiB, "
                f"and at most {MOST_BYTES >> 30} are tried; lower num_samples or pack_size",
                key="num_samples",
            )
