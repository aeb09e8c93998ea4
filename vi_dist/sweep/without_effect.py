"""Keys of a spec that change nothing, given the others: a sentence for each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from vi_dist.sweep.configuration import Configuration
from vi_dist.sweep.spec import GENERATION, SweepSpec
from vi_dist.sweep.values import show

_OF_A_FIT = ("steps", "num_samples", "averaging", "optimizer", "schedule", "initialisation")
_OF_RAY = ("address", "max_actors")


def without_effect(spec: SweepSpec, configurations: Sequence[Configuration]) -> Iterator[str]:
    """What a spec says in vain, a sentence for each key; a key at its default counts as not said."""
    written = spec.to_dict()
    for name in _OF_A_FIT:
        if name in spec.space and getattr(spec, name) != type(spec).model_fields[name].default:
            value = show(written[name])
            yield f"{name}: {value} has no effect, since space.{name} says what every configuration takes; delete one"
    if spec.executor == "inline":
        for name in _OF_RAY:
            if getattr(spec, name) is not None:
                yield (
                    f"{name}: {show(written[name])} has no effect, since executor: inline fits in this process; delete "
                    f"{name}, or write executor: ray"
                )
    generation = spec.generation or GENERATION
    if spec.search == "tpe" and spec.configurations is not None and generation >= spec.configurations:
        yield (
            f"search: tpe learns nothing, since its first generation of {generation} holds all {spec.configurations} "
            "configurations; write a smaller generation, or search: random"
        )
    if spec.halving is not None and len(configurations) == 1:
        yield "halving has no effect on one configuration; delete it, or add values to the space"
