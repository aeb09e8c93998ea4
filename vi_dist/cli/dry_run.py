"""``vi-dist sweep --dry-run``: what would run, how, and what it would take."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import typer

from vi_dist.api.destinations import check_destinations
from vi_dist.api.planning import PlannedSweep, plan_sweep
from vi_dist.cluster.build_source import BuildSource
from vi_dist.cluster.rungs import pack_runs
from vi_dist.cluster.shard_worker import ShardWorker
from vi_dist.cluster.task import PackTask, StepKind
from vi_dist.cluster.worker import PackWorker
from vi_dist.sweep.spec import SweepSpec

_MIB = 2.0**20


def show_plan(spec: SweepSpec, as_json: bool) -> None:
    """Check everything and print configurations, packs and memory; start nothing, write nothing."""
    check_destinations(spec)
    planned = plan_sweep(BuildSource(path=spec.model or ""), spec.data, spec)
    setup = planned.setup
    worker = PackWorker(setup) if setup.shards is None else ShardWorker(setup, [0])
    later = () if planned.search is None else planned.search.kinds
    tasks = [run.task for run in pack_runs(planned.packs, planned.configurations, later)]
    programs = {task.program: task for task in reversed(tasks)}
    kinds = {key: worker.describe(task) for key, task in programs.items()}
    packs = [_described(task, *kinds[task.program]) for task in tasks]
    if as_json:
        rows = [
            {"key": key, **c.to_dict()} for key, c in zip(planned.keys, planned.configurations, strict=True)
        ]
        typer.echo(json.dumps({"configurations": rows, "packs": packs, "rungs": _rungs(planned)}))
        return
    for pack, described in zip(planned.packs, packs, strict=True):
        typer.echo(
            f"pack {pack.index}: {len(pack.configurations)} configurations in {pack.width} columns, "
            f"{described['program']}; about {described['memory_mib']:.0f} MiB a step; {described['step']}"
        )
        for place in pack.configurations:
            typer.echo(f"  {planned.keys[place]}  {planned.configurations[place].name}")
    for rung in _rungs(planned):
        typer.echo(
            f"rung {rung['rung']} at {rung['steps']} steps: {rung['kept']} of {rung['entered']} configurations go on"
        )
    for line in _limits(spec):
        typer.echo(line)
    typer.echo(_total(planned))


def _total(planned: PlannedSweep) -> str:
    """How many configurations there are and, of a search that learns, how many more will be asked for."""
    here = f"{len(planned.keys)} configurations in {len(planned.packs)} packs"
    search = planned.search
    if search is None or search.total == len(planned.keys):
        return here
    left = search.total - len(planned.keys)
    times = -(-left // search.generation)
    return f"generation 1: {here}; {left} more follow in {times} generations, chosen by the results of those before"


def _rungs(planned: PlannedSweep) -> list[dict[str, int]]:
    """Every rung and how many go on there, if nothing diverges."""
    if planned.halving is None:
        return []
    return planned.halving.course(configuration.steps for configuration in planned.configurations)


def _limits(spec: SweepSpec) -> Iterator[str]:
    """What ends a sweep before its last step."""
    if spec.budget is not None:
        yield f"budget: {spec.budget.minutes:g} minutes; then what is open is evaluated where it stands"
    if spec.time_limit is not None:
        yield f"time limit: {spec.time_limit:g} s a configuration, as its share of its pack's time"


def _described(task: PackTask, kind: StepKind, memory: int) -> dict[str, Any]:
    first = task.configurations[0]
    step = f"loop over samples ({kind.reason})" if kind.mode == "loop" else "flat graph"
    return {
        "index": task.index,
        "width": task.width,
        "configurations": [configuration.name for configuration in task.configurations],
        "program": f"{first.guide}, {first.optimizer.name}, {first.num_samples} samples, {first.dtype}",
        "memory_mib": round(memory / _MIB, 1),
        "step": f"{step}, {'compiled' if kind.compiled else 'not compiled'} ({kind.decision})",
    }
