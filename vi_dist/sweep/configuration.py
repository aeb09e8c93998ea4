"""`Choice` and `Configuration`: one fully resolved point of a sweep, its name and its key."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from vi_dist.sweep.values import Scalar, short_number

CHOICES = ("guide", "divergence", "estimator", "optimizer", "schedule", "initialisation")


@dataclass(frozen=True)
class Choice:
    """One entry of a table with its arguments, in the table's order.

    >>> str(Choice("amari", (("alpha", 0.5),))), Choice("amari", (("alpha", 0.5),)).short()
    ('amari(alpha=0.5)', 'amari0.5')
    """

    name: str
    arguments: tuple[tuple[str, Scalar | None], ...] = ()

    def __str__(self) -> str:
        if not self.arguments:
            return self.name
        return f"{self.name}({', '.join(f'{name}={_text(value, 17)}' for name, value in self.arguments)})"

    def short(self, digits: int = 3) -> str:
        """The name with its values behind it, and the names of set flags: ``amari0.5``, ``mixture3,whiten``."""
        flags = [name for name, value in self.arguments if value is True]
        values = [_text(value, digits) for _, value in self.arguments if not isinstance(value, bool)]
        return self.name + ",".join(values) + "".join(f",{name}" for name in flags)

    def to_data(self) -> str | dict[str, dict[str, Scalar | None]]:
        """The choice as a spec writes it: its name, or ``{name: {argument: value}}``."""
        return {self.name: dict(self.arguments)} if self.arguments else self.name

    @classmethod
    def from_data(cls, data: str | Mapping[str, Mapping[str, Scalar | None]]) -> Choice:
        """The choice that `to_data` wrote; a user's spelling goes through `vi_dist.sweep.space` instead."""
        if isinstance(data, str):
            return cls(data)
        ((name, arguments),) = data.items()
        return cls(name, tuple(arguments.items()))


@dataclass(frozen=True)
class Configuration:
    """One fully resolved choice of hyperparameters, seed included; the estimator is never ``auto``.

    `name` is for people: unique within its sweep, and no part of equality, hash or key.
    """

    guide: Choice
    divergence: Choice
    estimator: Choice
    optimizer: Choice
    schedule: Choice
    learning_rate: float
    num_samples: int
    steps: int
    seed: int
    dtype: str
    initialisation: Choice = Choice("prior_median")
    averaging: float = 0.0
    name: str = field(default="", compare=False)

    def __post_init__(self) -> None:
        if not self.name:
            rate = short_number(self.learning_rate)
            name = f"{self.guide.short()}-{self.divergence.short()}-lr{rate}-s{self.seed}"
            object.__setattr__(self, "name", name)

    def to_dict(self) -> dict[str, Any]:
        """Plain data, choices as a spec writes them; `from_dict` reads it back, name included."""
        data = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return data | {name: data[name].to_data() for name in CHOICES}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Configuration:
        """The configuration that `to_dict` wrote."""
        return cls(**{**data, **{name: Choice.from_data(data[name]) for name in CHOICES}})

    def key(self, data_digest: str, code_version: str) -> str:
        """Twelve hex digits that stand for this configuration of this data under this code.

        The SHA-256 of canonical JSON over every value but the name.
        """
        content = self.to_dict() | {"data_digest": data_digest, "code_version": code_version}
        del content["name"]
        text = json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)
        return hashlib.sha256(text.encode()).hexdigest()[:12]


def _text(value: Scalar | None, digits: int) -> str:
    """An argument's value as names show it."""
    return "none" if value is None else short_number(value, digits)
