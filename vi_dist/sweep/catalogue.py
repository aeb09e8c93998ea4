"""The tables that names in a spec come from, injected so that a sweep is read without torch."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property

from vi_dist.errors import SpecError
from vi_dist.sweep.configuration import Choice, Configuration
from vi_dist.sweep.dimension import Dimension, Item, Named, Range, join
from vi_dist.sweep.parsing import fit_range
from vi_dist.sweep.values import parse_value, show, unknown
from vi_dist.vi.table import REQUIRED, Argument, Entry

AUTO = "auto"
_CALL = re.compile(r"(\w+)\s*\((.*)\)")


@dataclass(frozen=True)
class Catalogue:
    """Every choice there is, and the two rules that need to know the mathematics.

    `resolve_estimator(guide, divergence, estimator, samples)` returns the estimator that ``auto`` stands for, and any
    other as it is; `check(configuration)` raises a `SpecError` for a combination that cannot work. Either may
    set `.key` to the name of the dimension at fault (``divergence``), which becomes the key path in the spec.
    """

    guides: Mapping[str, Entry]
    divergences: Mapping[str, Entry]
    estimators: Mapping[str, Entry]
    optimizers: Mapping[str, Entry]
    schedules: Mapping[str, Entry]
    initialisations: Mapping[str, Entry]
    resolve_estimator: Callable[[Choice, Choice, Choice, int], Choice]
    check: Callable[[Configuration], None]

    def table(self, dimension: str) -> Mapping[str, Entry]:
        """The table of a dimension, ``guide`` for example; ``auto`` is an estimator to a spec."""
        return self._tables[dimension]

    @cached_property
    def _tables(self) -> Mapping[str, Mapping[str, Entry]]:
        """Every table by its dimension."""
        auto = Entry(AUTO, "picked by guide and divergence", _nothing)
        return {
            "guide": self.guides,
            "divergence": self.divergences,
            "estimator": {AUTO: auto, **self.estimators},
            "optimizer": self.optimizers,
            "schedule": self.schedules,
            "initialisation": self.initialisations,
        }

    def fit(self, dimension: str, options: Dimension) -> Dimension:
        """The options of a dimension with their arguments as the table wants them, in its order.

        Raises:
            SpecError: an unknown entry or argument, a missing argument, a wrong type, a value out of bounds.
        """
        table = self.table(dimension)
        return tuple(
            _fit(option, dimension, table) if isinstance(option, Named) else option for option in options
        )

    def complete(self, dimension: str, choice: Choice) -> Choice:
        """`choice` with every argument that was not written at its default, in the table's order."""
        written = dict(choice.arguments)
        arguments = self.table(dimension)[choice.name].arguments.items()
        return Choice(choice.name, tuple((name, written.get(name, a.default)) for name, a in arguments))


def _fit(named: Named, dimension: str, table: Mapping[str, Entry]) -> Named:
    """One entry checked against its table."""
    if named.name not in table:
        raise unknown(dimension, named.name, table, named.key, _call_cure(named.name, table))
    entry, written = table[named.name], dict(named.arguments)
    place = join(named.key, named.name)
    for name in written:
        if name not in entry.arguments:
            cure = (
                "" if entry.arguments else f"{dimension} {named.name} takes no arguments; write {named.name}"
            )
            noun = f"argument of {dimension} {named.name}:"
            raise unknown(noun, name, entry.arguments, join(place, name), cure)
    for name, argument in entry.arguments.items():
        if argument.default is REQUIRED and name not in written:
            raise _missing(named.name, dimension, name, argument, join(place, name))
    kept = [(name, argument) for name, argument in entry.arguments.items() if name in written]
    return Named(named.name, tuple((n, _fit_argument(written[n], a)) for n, a in kept), named.key)


def _fit_argument(dimension: Dimension, argument: Argument) -> Dimension:
    """The values of one argument, each of its type."""
    fitted: list[Item | Range] = []
    for option in dimension:
        assert not isinstance(option, Named)
        if isinstance(option, Range):
            fitted.append(fit_range(option, argument))
        else:
            fitted.append(Item(parse_value(option.value, argument, option.key), option.key))
    return tuple(fitted)


def _missing(entry: str, dimension: str, name: str, argument: Argument, key: str) -> SpecError:
    """The error for an entry without an argument that it needs."""
    about = f" ({argument.description})" if argument.description else ""
    cure = f"write {{{entry}: {{{name}: {_example(argument)}}}}}"
    return SpecError(f"{dimension} {show(entry)} needs {name}{about}; {cure}", key=key, allowed=(name,))


def _example(argument: Argument) -> str:
    """A value that the argument takes, to show how it is written."""
    if argument.kind is not int and argument.kind is not float:
        return "true" if argument.kind is bool else "text"
    if argument.kind is int:
        return str(int(1 if argument.low is None else max(argument.low, 1)))
    low = 0.0 if argument.low is None else argument.low
    high = low + 1.0 if argument.high is None else argument.high
    return f"{(low + high) / 2:.1g}"


def _call_cure(name: str, table: Mapping[str, Entry]) -> str:
    """The cure for an entry written as a call (``amari(alpha=0.5)``), or nothing."""
    found = _CALL.fullmatch(name)
    if not found or found[1] not in table:
        return ""
    values = [value.strip() for value in found[2].split(",") if value.strip()]
    pairs = zip(values, [*table[found[1]].arguments, *["argument"] * len(values)], strict=False)
    inner = ", ".join(v.replace("=", ": ") if "=" in v else f"{argument}: {v}" for v, argument in pairs)
    return f"write {{{found[1]}: {{{inner}}}}}" if inner else f"write {found[1]}"


def _nothing() -> None:
    """What `auto` makes: it never reaches the engine."""
