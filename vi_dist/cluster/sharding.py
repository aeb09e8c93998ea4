"""How a sweep's data are cut into shards, and what a model must be like for that."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from vi_dist.errors import ModelError
from vi_dist.model.identifier import RVIdentifier
from vi_dist.model.model import Model
from vi_dist.model.prior_median import prior_median
from vi_dist.model.shard_rows import ShardRows
from vi_dist.model.world import World


@dataclass(frozen=True)
class Sharding:
    """A cut of the data.

    Args:
        count: number of shards, W.
        group_by: column whose values stay together; None cuts between any two rows.
        directory: where checkpoints and the latents of rows are written, any fsspec path; empty for nowhere.
        batch_size: rows of each shard that a step sees; None for all of them.
    """

    count: int
    group_by: str | None = None
    directory: str = ""
    batch_size: int | None = None


def check_sharded(model: Model, rows: ShardRows) -> None:
    """Raise `ModelError`, naming the variable, where a shard of the model is no part of the whole.

    That is a local latent whose leading dimension does not follow the rows (or groups), and a latent that is not local
    but reads one that is: it would be another one on every shard.
    """
    world = World(model.observations, prior_median)
    for node in (*model.queries, *model.local, *model.observations):
        world.call(node)
    expected = len(rows.ids)
    for node in model.local:
        shape = tuple(world.get_variable(node).value.shape)
        if not shape or shape[0] != expected:
            raise ModelError(
                f"{node} is local and has shape {shape} where this shard has {expected} rows (or groups); its leading "
                "dimension must follow them",
                key="local",
            )
    local = set(model.local)
    for node in world.latent_nodes:
        if node not in local and (read := _ancestors(world, node) & local):
            raise ModelError(
                f"{node} reads {', '.join(sorted(map(str, read)))}, which belongs to rows; list {node} among local "
                "too, or let it not depend on rows",
                key="local",
            )


def check_queries(model: Model) -> None:
    """Raise `ModelError` where no query is left when those of latents of rows are left out."""
    if not shared_queries(model).queries:
        raise ModelError(
            f"every query ({', '.join(map(str, model.queries))}) belongs to rows, and draws are of what shards share; "
            "add a query of a latent that is not local",
            key="local",
        )


def check_groups(model: Model, group_by: str | None) -> None:
    """Raise `ModelError` for groups that no latent belongs to: their column would be recoded for nothing."""
    if group_by is not None and not model.local:
        raise ModelError(
            f"group_by keeps the rows of one {group_by} together, and numbers it anew in every shard, for latents that "
            "belong to groups, and the model has none; name them in Model(local=[...]), or leave group_by out",
            key="group_by",
        )


def shared_queries(model: Model) -> Model:
    """The model with those queries alone that depend on no local latent: what shards share can answer them."""
    if not model.local:
        return model
    kept = []
    for query in model.queries:
        world = World(model.observations, prior_median)
        world.call(query)
        if not set(world.latent_nodes) & set(model.local):
            kept.append(query)
    return Model(kept, model.observations, model.local)


def local_queries(model: Model) -> Model:
    """The model with its local latents for queries."""
    return Model(model.local, model.observations, model.local)


def _ancestors(world: World, node: RVIdentifier) -> set[RVIdentifier]:
    found: set[RVIdentifier] = set()
    open_nodes: Iterable[RVIdentifier] = world.get_variable(node).parents
    while open_nodes := set(open_nodes) - found:
        found |= open_nodes
        open_nodes = {parent for one in open_nodes for parent in world.get_variable(one).parents}
    return found
