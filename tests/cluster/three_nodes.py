"""Run by test_three_nodes.py in a process of its own: a head without CPUs and two workers on this machine.

Prints one JSON object: what happened when a worker's node was removed in mid-sweep, and what a sweep that wants a GPU
said while it waited.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
from ray.cluster_utils import Cluster

from vi_dist.api.catalogue import catalogue
from vi_dist.cluster.build_source import BuildSource
from vi_dist.cluster.driver import Driver
from vi_dist.cluster.inline_executor import InlineExecutor
from vi_dist.cluster.pack_run import PackRun
from vi_dist.cluster.progress import Progress
from vi_dist.cluster.ray_executor import RayExecutor
from vi_dist.cluster.setup import Setup
from vi_dist.cluster.task import CURVES, PackTask
from vi_dist.sweep.space import resolve_one

TOY = Path(__file__).with_name("toy.py")
SETUP = Setup(
    BuildSource(path=f"{TOY}:build"), {"y": np.array([0.3, 1.7, 2.2, 0.9, 1.4, 2.8])}, 64, compile="never"
)
NODE = {"object_store_memory": 80 * 2**20, "include_dashboard": False}


def packs() -> list[PackRun]:
    """Two packs, long enough that a node dies in the middle of both."""
    known = catalogue()
    common = {"steps": 1500, "num_samples": 4, "learning_rate": 0.05}
    chosen = [resolve_one({**common, "seed": seed}, known) for seed in range(2)]
    return [PackRun(PackTask(place, 1, (one,)), (place,)) for place, one in enumerate(chosen)]


def lose_a_node(cluster: Cluster) -> dict[str, object]:
    """A sweep over two nodes, one of which is removed as soon as both have done something."""
    here, there = packs(), packs()
    Driver(here, SETUP, InlineExecutor()).run()
    removed: list[str] = []

    def remove(moment: Progress) -> None:
        busy = [
            run for run in there if run.last is not None and run.outcomes is None and run.place is not None
        ]
        if len(busy) == 2 and not removed:
            node = cluster.worker_nodes.copy().pop()
            removed.append(node.node_id)
            cluster.remove_node(node, allow_graceful=False)

    executor = RayExecutor(address=cluster.address)
    Driver(there, SETUP, executor, callback=remove, chunk_seconds=0.05).run()
    same = all(
        mine.outcomes[0].elbo == theirs.outcomes[0].elbo  # type: ignore[index]
        and all(np.array_equal(mine.curves()[0][name], theirs.curves()[0][name]) for name in CURVES)
        for mine, theirs in zip(here, there, strict=True)
    )
    return {"removed": len(removed), "attempts": sorted(run.attempt for run in there), "same": same}


def ask_for_a_gpu(cluster: Cluster) -> str:
    """What a sweep says that wants a GPU where there is none; it would wait for one for ever."""
    said: list[str] = []

    def listen(moment: Progress) -> None:
        if moment.note:
            said.append(moment.note)
            raise KeyboardInterrupt

    try:
        Driver(packs(), SETUP, RayExecutor(address=cluster.address, gpus=1.0), callback=listen).run()
    except KeyboardInterrupt:
        return said[0]
    return "it did not wait"


def main() -> None:
    """Start the nodes, try both, end the nodes."""
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, **NODE})
    try:
        for _ in range(2):
            cluster.add_node(num_cpus=1, **NODE)
        cluster.wait_for_nodes()
        json.dump({"gpu": ask_for_a_gpu(cluster), **lose_a_node(cluster)}, sys.stdout)
    finally:
        cluster.shutdown()


if __name__ == "__main__":
    main()
