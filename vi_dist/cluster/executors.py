"""The executor that a spec asks for. Quick to import, so that a local Ray can start while torch is imported."""

from __future__ import annotations

from vi_dist.cluster.executor import Executor
from vi_dist.sweep.spec import SweepSpec


def make_executor(spec: SweepSpec) -> Executor:
    """Where the spec wants its packs to run."""
    if spec.executor == "inline":
        from vi_dist.cluster.inline_executor import InlineExecutor

        return InlineExecutor("cuda" if spec.gpus_per_actor else "cpu")
    if spec.shards is None:
        from vi_dist.cluster.ray_executor import RayExecutor as Kind
    else:
        from vi_dist.cluster.ray_shards import RayShardExecutor as Kind
    return Kind(spec.address, spec.max_actors, spec.cpus_per_actor, spec.gpus_per_actor)
