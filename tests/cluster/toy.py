"""Models small enough for every test; found by path, as an experiment's are."""

from __future__ import annotations

import os
import signal

import torch
from torch import Tensor
from torch.distributions import Distribution, HalfNormal, Normal

from vi_dist import Model, functional, random_variable

CALLS = [0]


def build(data: dict[str, Tensor]) -> Model:
    """Normal data with unknown mean and scale: two latents, three coordinates, one functional."""
    y = data["y"]

    @random_variable
    def mu() -> Distribution:
        return Normal(torch.zeros(2), 3.0)

    @random_variable
    def tau() -> Distribution:
        return HalfNormal(torch.tensor(2.0))

    @functional
    def total() -> Tensor:
        return mu().sum() * tau()

    @random_variable
    def obs() -> Distribution:
        CALLS[0] += 1
        return Normal(mu()[0] + 0.5 * mu()[1], tau()).expand(y.shape)

    return Model([mu(), tau(), total()], {obs(): y})


def build_loop(data: dict[str, Tensor]) -> Model:
    """The same data under a model that branches on a latent's value, which no graph can hold."""
    y = data["y"]

    @random_variable
    def mu() -> Distribution:
        return Normal(torch.tensor(0.0), 3.0)

    @random_variable
    def obs() -> Distribution:
        shift = 1.0 if mu() > 0 else -1.0
        return Normal(mu() + shift, 1.0).expand(y.shape)

    return Model([mu()], {obs(): y})


def build_local(data: dict[str, Tensor]) -> Model:
    """Groups with levels of their own, which are local, around a mean that is not."""
    y, group = data["y"], data["group"]
    count = int(group.max()) + 1 if len(group) else 0

    @random_variable
    def mu() -> Distribution:
        return Normal(torch.zeros(2), 3.0)

    @random_variable
    def level() -> Distribution:
        return Normal(mu()[0].expand(count), 1.0)

    @random_variable
    def obs() -> Distribution:
        return Normal(level()[group] + mu()[1] * data["x"], 1.0)

    return Model([mu(), level()], {obs(): y}, local=[level()])


def build_levels(data: dict[str, Tensor]) -> Model:
    """A level for every row."""
    y = data["y"]

    @random_variable
    def mu() -> Distribution:
        return Normal(torch.tensor(0.0), 3.0)

    @random_variable
    def level() -> Distribution:
        return Normal(mu().expand(y.shape), 1.0)

    @random_variable
    def obs() -> Distribution:
        return Normal(level(), 1.0)

    return Model([mu()], {obs(): y}, local=[level()])


def build_mean(data: dict[str, Tensor]) -> Model:
    """Normal data of unit scale with unknown mean, whose posterior is normal too."""
    y = data["y"]

    @random_variable
    def mu() -> Distribution:
        return Normal(torch.tensor(0.0), 3.0)

    @random_variable
    def obs() -> Distribution:
        return Normal(mu(), 1.0).expand(y.shape)

    return Model([mu()], {obs(): y})


def build_reading(data: dict[str, Tensor]) -> Model:
    """A global that reads a local one."""
    y = data["y"]

    @random_variable
    def level() -> Distribution:
        return Normal(torch.zeros(y.shape), 1.0)

    @random_variable
    def shift() -> Distribution:
        return Normal(level().mean(), 1.0)

    @random_variable
    def obs() -> Distribution:
        return Normal(level() + shift(), 1.0)

    return Model([shift()], {obs(): y}, local=[level()])


def build_short(data: dict[str, Tensor]) -> Model:
    """A local latent with a row too many."""
    y = data["y"]

    @random_variable
    def level() -> Distribution:
        return Normal(torch.zeros(len(y) + 1), 1.0)

    @random_variable
    def obs() -> Distribution:
        return Normal(level()[:-1], 1.0)

    return Model([level()], {obs(): y}, local=[level()])


def build_dying(data: dict[str, Tensor]) -> Model:
    """A model that takes its actor with it; a driver is spared."""
    if _in_actor():
        os.kill(os.getpid(), signal.SIGKILL)
    return build(data)


def build_failing(data: dict[str, Tensor]) -> Model:
    """A model that is sound where it is checked and raises in an actor."""
    if _in_actor():
        raise RuntimeError("no luck here")
    return build(data)


def _in_actor() -> bool:
    import ray

    return ray.is_initialized() and ray.get_runtime_context().get_actor_id() is not None


Y = [0.3, 1.7, 2.2, 0.9, 1.4, 2.8]
