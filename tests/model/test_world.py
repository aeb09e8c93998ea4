"""One instantiation of a model: values, graph, log density."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.distributions import Bernoulli, Distribution, Gamma, Normal, Uniform
from torch.fx.experimental.proxy_tensor import make_fx

from vi_dist.errors import ModelError
from vi_dist.model.decorators import functional, param, random_variable
from vi_dist.model.initialize import init_from_prior
from vi_dist.model.world import World


class Chain:
    """a -> b -> c, with everything counted that runs."""

    def __init__(self) -> None:
        self.runs: dict[str, int] = {}

    def count(self, name: str) -> None:
        """Note one run of a function."""
        self.runs[name] = self.runs.get(name, 0) + 1

    @random_variable
    def a(self) -> Distribution:
        """The root."""
        self.count("a")
        return Normal(0.0, 1.0)

    @random_variable
    def b(self) -> Distribution:
        """The middle."""
        self.count("b")
        return Normal(self.a(), 2.0)

    @random_variable
    def c(self) -> Distribution:
        """The leaf."""
        self.count("c")
        return Normal(self.b(), torch.ones(3))

    @functional
    def total(self) -> torch.Tensor:
        """A derived quantity."""
        return self.a() + self.b()


class Switch:
    """Whether `left` or `right` is a parent of `x` depends on a value."""

    @random_variable
    def coin(self) -> Distribution:
        """Which side."""
        return Normal(0.0, 1.0)

    @random_variable
    def left(self) -> Distribution:
        """One side."""
        return Normal(-5.0, 1.0)

    @random_variable
    def right(self) -> Distribution:
        """The other side."""
        return Normal(5.0, 1.0)

    @random_variable
    def x(self) -> Distribution:
        """Reads one side only."""
        return Normal(self.left() if self.coin() < 0 else self.right(), 1.0)


def test_a_variable_keeps_its_value() -> None:
    model, world = Chain(), World()
    with world:
        first = model.b()
    with world:
        assert model.b() is first
    assert world[model.b()] is first and world.call(model.b()) is first
    assert model.runs == {"a": 1, "b": 1}


def test_observations_are_used_as_they_are() -> None:
    model, seen = Chain(), torch.ones(3)
    world = World({model.c(): seen})
    assert world.call(model.c()) is seen
    assert world.observations == {model.c(): seen}
    assert list(world.latent_nodes) == [model.a(), model.b()]


def test_outside_a_world_calls_give_identifiers_again() -> None:
    model = Chain()
    with World():
        assert isinstance(model.a(), torch.Tensor)
    assert str(model.a()) == "a"


def test_worlds_nest_and_threads_do_not_see_each_other() -> None:
    model, outer, inner = Chain(), World(), World()
    seen: list[object] = []
    with outer:
        first = model.a()
        with inner:
            second = model.a()
        assert model.a() is first and second is not first
        thread = threading.Thread(target=lambda: seen.append(model.a()))
        thread.start()
        thread.join()
    assert str(seen[0]) == "a"


def test_graph() -> None:
    model, world = Chain(), World()
    world.call(model.c())
    variables = [world.get_variable(node) for node in (model.a(), model.b(), model.c())]
    assert [v.parents for v in variables] == [set(), {model.a()}, {model.b()}]
    assert [v.children for v in variables] == [{model.b()}, {model.c()}, set()]
    assert list(world) == [model.a(), model.b(), model.c()]
    assert variables[2].distribution.batch_shape == (3,)


def test_log_prob_sums_sites_in_order_of_instantiation() -> None:
    model = Chain()
    values = {model.a(): torch.tensor(0.5), model.b(): torch.tensor(1.0), model.c(): torch.zeros(3)}
    world = World(values)
    world.call(model.c())
    terms = [
        Normal(0.0, 1.0).log_prob(values[model.a()]),
        Normal(0.5, 2.0).log_prob(values[model.b()]),
        Normal(1.0, torch.ones(3)).log_prob(values[model.c()]).sum(),
    ]
    assert world.log_prob() == (terms[0] + terms[1]) + terms[2]
    assert (
        world.log_prob([model.c(), model.a()])
        == world.log_prob([model.a(), model.c()])
        == terms[0] + terms[2]
    )
    assert world.log_prob([]) == 0
    with pytest.raises(KeyError, match="total is not instantiated"):
        world.log_prob([model.total()])


def test_log_prob_keeps_double_precision() -> None:
    x = random_variable(lambda: Normal(torch.tensor(0.1, dtype=torch.float64), 1.0))
    world = World()
    world.call(x())
    assert world.log_prob().dtype == torch.float64


def test_missing_variable_is_named() -> None:
    with pytest.raises(KeyError, match="a is not instantiated"):
        World()[Chain().a()]
    assert Chain().a() not in World()


def test_functionals_are_computed() -> None:
    model = Chain()
    world = World({model.a(): torch.tensor(1.0), model.b(): torch.tensor(2.0)})
    assert world.call(model.total()) == 3.0
    assert model.total() not in world


def test_replace_recomputes_children_in_a_new_world() -> None:
    model, world = Chain(), World()
    world.call(model.c())
    before = {node: world[node] for node in world}
    changed = world.replace({model.a(): torch.tensor(7.0)})
    assert changed[model.a()] == 7.0
    assert changed.get_variable(model.b()).distribution.mean == 7.0
    assert changed[model.b()] is before[model.b()]
    assert model.runs == {"a": 1, "b": 2, "c": 1}, "only the children run again"
    expected = Normal(0.0, 1.0).log_prob(torch.tensor(7.0)) + Normal(7.0, 2.0).log_prob(before[model.b()])
    assert changed.log_prob([model.a(), model.b()]) == expected
    assert {node: world[node] for node in world} == before
    assert world.get_variable(model.b()).distribution.mean == before[model.a()]


def test_replace_follows_control_flow() -> None:
    model = Switch()
    world = World({model.x(): torch.tensor(0.0)}, init_from_prior)
    world.update_graph(model.coin())
    world = world.replace({model.coin(): torch.tensor(-1.0)})
    world.call(model.x())
    assert world.get_variable(model.x()).parents == {model.coin(), model.left()}
    flipped = world.replace({model.coin(): torch.tensor(1.0)})
    assert flipped.get_variable(model.x()).parents == {model.coin(), model.right()}
    assert flipped.get_variable(model.left()).children == set()
    assert flipped.get_variable(model.right()).children == {model.x()}
    assert flipped.get_variable(model.x()).distribution.mean == flipped[model.right()]
    assert model.right() not in world
    assert world.get_variable(model.coin()).children == {model.x()}
    assert world.get_variable(model.left()).children == {model.x()}


def test_replace_refuses_what_it_cannot_do() -> None:
    model = Chain()
    world = World({model.c(): torch.zeros(3)})
    world.call(model.c())
    with pytest.raises(ModelError, match="c is observed"):
        world.replace({model.c(): torch.ones(3)})
    with pytest.raises(ModelError, match="a is not instantiated"):
        World().replace({model.a(): torch.ones(())})


def test_a_cycle_is_named() -> None:
    @random_variable
    def egg() -> Distribution:
        return Normal(hen(), 1.0)

    @random_variable
    def hen() -> Distribution:
        return Normal(egg(), 1.0)

    with pytest.raises(ModelError, match=r"egg depends on itself \(egg -> hen -> egg\)"):
        World().call(egg())


def test_an_endless_chain_is_an_error_with_a_cure() -> None:
    @random_variable
    def state(t: int) -> Distribution:
        return Normal(state(t - 1), 1.0)

    with pytest.raises(ModelError, match=r"state\(0\) reaches back through too many variables .* earlier"):
        World().call(state(0))


def test_a_long_chain_listed_in_order_is_fine() -> None:
    @random_variable
    def state(t: int) -> Distribution:
        return Normal(state(t - 1) if t else 0.0, 1.0)

    world = World.initialize_world([state(t) for t in range(2000)])
    assert len(world) == 2000


@pytest.mark.parametrize("returned", [1.0, torch.zeros(2), None, Normal])
def test_a_random_variable_must_return_a_distribution(returned: object) -> None:
    bad = random_variable(lambda: returned)
    bad.__wrapped__.__name__ = "bad"
    with pytest.raises(ModelError, match=f"bad returned {type(returned).__name__}"):
        World().call(bad())


def test_calling_something_undecorated_says_so() -> None:
    with pytest.raises(ModelError, match="decorate its function"):
        World().call(lambda: 1)  # type: ignore[arg-type]


def test_an_error_in_the_model_leaves_the_world_usable() -> None:
    broken = True

    @random_variable
    def x() -> Distribution:
        if broken:
            raise ArithmeticError("mine")
        return Normal(0.0, 1.0)

    world = World()
    with pytest.raises(ArithmeticError, match="mine"):
        world.call(x())
    broken = False
    assert isinstance(world.call(x()), torch.Tensor)
    assert str(x()) == "x"


def test_initialize_world_retries_until_the_density_is_finite() -> None:
    draws = iter([-1.0, -2.0, 3.0])
    scale = random_variable(lambda: Normal(0.0, 1.0))
    x = random_variable(lambda: Normal(0.0, scale()))
    world = World.initialize_world([], {x(): torch.zeros(())}, lambda _: torch.tensor(next(draws)))
    assert world[scale()] == 3.0


def test_initialize_world_names_what_never_works() -> None:
    @random_variable
    def width() -> Distribution:
        return Uniform(0.0, 1.0)

    @random_variable
    def x() -> Distribution:
        return Uniform(0.0, width())

    with pytest.raises(ModelError, match="in 3 draws: the log density of x is not finite"):
        World.initialize_world([x()], {x(): torch.tensor(2.0)}, max_retries=3)


def test_params_are_initialised_once_and_stored() -> None:
    calls: list[int] = []

    @param
    def eta(i: int) -> torch.Tensor:
        calls.append(i)
        return torch.zeros(2)

    @random_variable
    def x() -> Distribution:
        return Normal(eta(0), 1.0)

    params: dict[Any, torch.Tensor] = {}
    for _ in range(2):
        World(params=params).call(x())
    assert calls == [0] and list(params) == [eta(0)]
    assert params[eta(0)].requires_grad and params[eta(0)].is_leaf
    given = torch.ones(2)
    world = World(params={eta(0): given})
    world.call(x())
    assert world.get_param(eta(0)) is given
    assert world.get_variable(x()).distribution.mean.tolist() == [1.0, 1.0]
    assert World().call(eta(1)).tolist() == [0.0, 0.0]


def test_params_that_start_from_one_constant_are_two_tensors() -> None:
    zero = torch.zeros(())
    eta = param(lambda i: zero)
    world = World()
    assert world.get_param(eta(0)) is not world.get_param(eta(1))
    assert not zero.requires_grad


def test_a_module_s_own_parameter_stays_itself() -> None:
    weight = torch.nn.Parameter(torch.zeros(2))
    eta = param(lambda: weight)
    assert World().get_param(eta()) is weight


@pytest.mark.parametrize(("value", "kind"), [(1.0, "float"), (torch.tensor(1), "torch.int64")])
def test_a_param_must_start_as_a_floating_point_tensor(value: object, kind: str) -> None:
    eta = param(lambda: value)
    with pytest.raises(ModelError, match=f"starts as {kind}"):
        World().get_param(eta())


def test_subclasses_may_say_where_values_come_from() -> None:
    class Fixed(World):
        """Every latent is 4."""

        def _initial_value(self, node: object, distribution: Distribution) -> torch.Tensor:
            return torch.tensor(4.0)

    model, world = Chain(), Fixed()
    assert world.call(model.total()) == 8.0
    assert type(world.copy()) is Fixed


def test_a_world_traces_and_batches(unchecked: Callable[[], None]) -> None:
    model = Chain()

    def density(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        world = World({model.a(): a, model.b(): b, model.c(): torch.zeros(3)})
        world.call(model.c())
        return world.log_prob()

    a, b = torch.tensor(0.3), torch.tensor(-0.2)
    graph = make_fx(density)(a, b)
    assert torch.allclose(graph(b, a), density(b, a))
    rows = torch.randn(5, 2)
    batched = torch.vmap(graph)(rows[:, 0], rows[:, 1])
    assert torch.allclose(batched, torch.stack([density(*row) for row in rows]))


@pytest.fixture
def unchecked() -> Any:
    """Distributions without value checks, which cannot be traced."""
    from vi_dist.model.validation import unvalidated

    with unvalidated():
        yield


def test_value_checks_are_put_back() -> None:
    bad = random_variable(lambda: Normal(0.0, torch.tensor(-1.0)))
    with pytest.raises(ModelError):
        World.initialize_world([], {bad(): torch.zeros(())}, max_retries=1)
    with pytest.raises(ValueError, match="scale"):
        World().call(bad())


def test_discrete_values_steer_plain_python() -> None:
    @random_variable
    def heads() -> Distribution:
        return Bernoulli(0.5)

    @random_variable
    def x() -> Distribution:
        return Gamma(2.0, 1.0) if heads() > 0 else Normal(0.0, 1.0)

    kinds = {type(World({heads(): torch.tensor(v)}).copy()._run(x())[0]) for v in (0.0, 1.0)}
    assert kinds == {Gamma, Normal}
