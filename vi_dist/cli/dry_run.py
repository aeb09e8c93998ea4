"""``vi-dist sweep --dry-run``: what would run, how, and what it would take."""

from __future__ import annotations

import json
from typing import Any

import typer

from vi_dist.api.sweeping import pack_runs, plan_sweep
from vi_dist.cluster.build_source import BuildSource
from vi_dist.cluster.task import PackTask, StepKind
from vi_dist.cluster.worker import PackWorker
from vi_dist.sweep.plan import Program, program
from vi_dist.sweep.spec import SweepSpec

_MIB = 2.0**20


def show_plan(spec: SweepSpec, as_json: bool) -> None:
    """Check everything and print configurations, packs and memory; start nothing, write nothing."""
    planned = plan_sweep(BuildSource(path=spec.model or ""), spec.data, spec)
    worker = PackWorker(planned.setup)
    tasks = [run.task for run in pack_runs(planned.packs, planned.configurations)]
    programs = {_program(task): task for task in reversed(tasks)}
    kinds = {key: worker.describe(task) for key, task in programs.items()}
    packs = [_described(task, *kinds[_program(task)]) for task in tasks]
    if as_json:
        rows = [
            {"key": key, **c.to_dict()} for key, c in zip(planned.keys, planned.configurations, strict=True)
        ]
        typer.echo(json.dumps({"configurations": rows, "packs": packs}))
        return
    for pack, described in zip(planned.packs, packs, strict=True):
        typer.echo(
            f"pack {pack.index}: {len(pack.configurations)} configurations in {pack.width} columns, "
            f"{described['program']}; about {described['memory_mib']:.0f} MiB a step; {described['step']}"
        )
        for place in pack.configurations:
            typer.echo(f"  {planned.keys[place]}  {planned.configurations[place].name}")
    typer.echo(f"{len(planned.keys)} configurations in {len(packs)} packs")


def _program(task: PackTask) -> tuple[Program, int]:
    """What packs share that step alike."""
    return program(task.configurations[0]), task.width


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
