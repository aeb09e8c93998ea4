"""Blocks of coordinates: which latents of a model belong together."""

from __future__ import annotations

from vi_dist.errors import ModelError
from vi_dist.vi.noise import NoiseSpace


def block_of_each(space: NoiseSpace, blocks: str = "") -> list[int]:
    """The block number of every coordinate, blocks numbered in order of their first coordinate.

    A latent is a block of its own unless `blocks` groups it: names joined by ``+``, groups separated by ``|``; a name
    stands for a latent (``theta(3)``) or for all of a function (``theta``).

    >>> from vi_dist.vi.noise import NoiseSite
    >>> space = NoiseSpace((NoiseSite("mu", 1), NoiseSite("theta(0)", 2), NoiseSite("theta(1)", 1)))
    >>> block_of_each(space), block_of_each(space, "theta")
    ([0, 1, 1, 2], [0, 1, 1, 1])

    Raises `ModelError` for a name that is no latent's, and for one in two groups.
    """
    grouped: dict[str, int] = {}
    for number, group in enumerate(part for part in blocks.split("|") if part.strip()):
        for name in (part.strip() for part in group.split("+")):
            for site in _named(space, name):
                if site in grouped:
                    raise ModelError(f"{site} is in two blocks of {blocks!r}; name it once", key="guide")
                grouped[site] = number
    numbers: dict[object, int] = {}
    found: list[int] = []
    for latent in space.sites:
        group_key = grouped.get(latent.name, latent.name)
        if latent.size:
            found += [numbers.setdefault(group_key, len(numbers))] * latent.size
    return found


def _named(space: NoiseSpace, name: str) -> list[str]:
    """The latents that a name stands for."""
    sites = [site.name for site in space.sites]
    exact = [site for site in sites if site == name]
    found = exact or [site for site in sites if site.split("(", 1)[0] == name]
    if not found:
        raise ModelError(
            f"the blocks name {name!r}, which is no latent of the model", key="guide", allowed=sites
        )
    return found
