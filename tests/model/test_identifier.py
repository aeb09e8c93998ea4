"""Names and equality of random variables."""

from __future__ import annotations

import pickle

import pytest
import torch
from torch.distributions import Normal

from vi_dist.errors import ModelError
from vi_dist.model.decorators import functional, param, random_variable
from vi_dist.model.identifier import RVIdentifier
from vi_dist.model.world import World


@random_variable
def theta(*index: object) -> Normal:
    """A random variable of any index."""
    return Normal(0.0, 1.0)


@random_variable
def shifted(i: int, by: float = 0.5) -> Normal:
    """A random variable with a default."""
    return Normal(float(i), by)


class School:
    """A model written as a class."""

    @random_variable
    def effect(self, i: int) -> Normal:
        """One school's effect."""
        return Normal(0.0, 1.0)

    @staticmethod
    @random_variable
    def common() -> Normal:
        """Belongs to no instance."""
        return Normal(0.0, 1.0)


class Special(School):
    """A subclass, whose inherited variables keep their names."""


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        ((), "theta"),
        ((3,), "theta(3)"),
        ((0, 1), "theta(0, 1)"),
        (("a",), "theta('a')"),
        ((torch.zeros(2, 3),), "theta(tensor[2, 3])"),
        ((School(),), "theta(School)"),
    ],
)
def test_name(arguments: tuple[object, ...], name: str) -> None:
    assert str(theta(*arguments)) == name


@pytest.mark.parametrize("kind", [School, Special])
def test_name_of_a_method_leaves_the_instance_out(kind: type[School]) -> None:
    assert str(kind().effect(2)) == "effect(2)"
    assert str(kind().common()) == "common"


def test_equality_is_by_function_and_arguments() -> None:
    assert theta(1) == theta(1) and hash(theta(1)) == hash(theta(1))
    assert theta(1) != theta(2)
    assert theta(1) != shifted(1)
    first, second = School(), School()
    assert first.effect(1) == first.effect(1)
    assert first.effect(1) != second.effect(1)


def test_keywords_and_defaults_are_the_same_variable() -> None:
    assert shifted(1) == shifted(i=1) == shifted(1, 0.5) == shifted(1, by=0.5)
    with World() as world:
        assert shifted(1) is shifted(i=1)
    assert len(world) == 1


def test_tensor_arguments() -> None:
    data = torch.zeros(2)
    assert theta(data) == theta(data)
    assert theta(data) != theta(torch.zeros(2))
    with pytest.raises(ModelError, match=r"theta was called with the tensor .*i\.item\(\)"):
        theta(torch.tensor(1))


def test_unhashable_argument_is_named() -> None:
    with pytest.raises(ModelError, match=r"the arguments of theta\(\[1\]\) cannot be a key"):
        hash(theta([1]))


def test_frozen() -> None:
    with pytest.raises(AttributeError):
        theta().arguments = (1,)


def test_pickle_returns_the_same_variable() -> None:
    assert pickle.loads(pickle.dumps(theta(3))) == theta(3)


def test_kinds() -> None:
    square = functional(lambda: theta() ** 2)
    phi = param(lambda: torch.zeros(2))
    kinds = [(v.is_random_variable, v.is_functional, v.is_param) for v in (theta(), square(), phi())]
    assert kinds == [(True, False, False), (False, True, False), (False, False, True)]
    assert all(isinstance(v, RVIdentifier) for v in (theta(), square(), phi()))
    assert theta(3).function(3).mean == 0.0 and theta(3).arguments == (3,)
