"""A sweep from its spec to its result: check, plan, run, keep."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from vi_dist.api.catalogue import catalogue
from vi_dist.api.checks import CheckedModel, as_arrays, check
from vi_dist.api.finishing import finish
from vi_dist.api.sweep_result import SweepResult
from vi_dist.cluster.build_source import BuildSource
from vi_dist.cluster.driver import Driver
from vi_dist.cluster.executor import Executor
from vi_dist.cluster.fault import one_line
from vi_dist.cluster.inline_executor import InlineExecutor
from vi_dist.cluster.interrupts import Interrupts
from vi_dist.cluster.pack_run import PackRun
from vi_dist.cluster.progress import ProgressCallback
from vi_dist.cluster.recorder import Recorder, flattened
from vi_dist.cluster.setup import Setup
from vi_dist.cluster.sweep_files import SweepFiles
from vi_dist.cluster.task import PackTask
from vi_dist.cluster.timings import Timings
from vi_dist.sweep.configuration import Configuration
from vi_dist.sweep.plan import Pack, Program, plan, program
from vi_dist.sweep.space import resolve
from vi_dist.sweep.spec import SweepSpec
from vi_dist.tracking.environment import default_tracking_uri
from vi_dist.tracking.provenance import source_tags
from vi_dist.tracking.records import SweepEnded, SweepStarted
from vi_dist.tracking.tracker import Tracker

OUTPUT = "vi-dist-out"


@dataclass(frozen=True)
class PlannedSweep:
    """A sweep that has passed every check: nothing has started, nothing is on disk.

    Attributes:
        setup: what workers need.
        configurations: in order, with their `keys`.
        packs: the plan.
        checked: the model.
    """

    spec: SweepSpec
    setup: Setup
    configurations: Sequence[Configuration]
    keys: Sequence[str]
    packs: Sequence[Pack]
    checked: CheckedModel


def plan_sweep(build: BuildSource, data: object, spec: SweepSpec) -> PlannedSweep:
    """Resolve and check everything. Raises `SpecError`."""
    configurations = resolve(spec, catalogue())
    threads = max(1, int(spec.cpus_per_actor))
    setup = Setup(build, as_arrays(data), spec.evaluation.samples, threads, spec.compile)
    checked = check(setup, spec.dtype)
    # Once more, now that the model is known: its coordinates and its params rule out further combinations.
    configurations = resolve(spec, catalogue(checked.layout))
    version = build.version()
    keys = [configuration.key(checked.data_digest, version) for configuration in configurations]
    size: int | Literal["auto"] = "auto" if isinstance(spec.pack_size, str) else spec.pack_size
    return PlannedSweep(spec, setup, configurations, keys, plan(configurations, size), checked)


def run_sweep(
    build: BuildSource,
    data: object,
    spec: SweepSpec,
    *,
    progress: ProgressCallback | None = None,
    timings: Timings | None = None,
) -> SweepResult:
    """Run a sweep; see `Experiment.sweep`."""
    timings = timings or Timings()
    executor = make_executor(spec)
    executor.prepare()
    try:
        planned = plan_sweep(build, data, spec)
        output = Path(spec.output_dir or OUTPUT).absolute()
        files = SweepFiles.create(output, spec.name, planned.keys)
        files.write_plan(planned.configurations, planned.packs, spec.to_yaml())
        tracker = Tracker(files.spool, spec.tracking_uri or default_tracking_uri(output))
        recorder = Recorder(tracker, planned.keys, timings)
        with timings.tracked():
            tracker.start()
        recorder.write(_started(planned, files.directory.name))
        with _closing(recorder):
            return _run(planned, executor, files, recorder, progress)
    finally:
        executor.close()


@contextmanager
def _closing(recorder: Recorder) -> Iterator[None]:
    """However the sweep breaks off, its runs are closed; the writer sees to that when we are gone."""
    try:
        yield
    except BaseException as error:
        stopped = isinstance(error, KeyboardInterrupt)
        reason = "Interrupted twice." if stopped else f"The driver failed: {one_line(error)}"
        recorder.write(SweepEnded("interrupted" if stopped else "failed", reason))
        recorder.tracker.close(timeout=0)
        raise


def make_executor(spec: SweepSpec) -> Executor:
    """Where the spec wants its packs to run."""
    if spec.executor == "inline":
        return InlineExecutor("cuda" if spec.gpus_per_actor else "cpu")
    from vi_dist.cluster.ray_executor import RayExecutor

    return RayExecutor(spec.address, spec.max_actors, spec.cpus_per_actor, spec.gpus_per_actor)


def _run(
    planned: PlannedSweep,
    executor: Executor,
    files: SweepFiles,
    recorder: Recorder,
    progress: ProgressCallback | None,
) -> SweepResult:
    """From the first pack to the result on disk."""
    runs = pack_runs(planned.packs, planned.configurations)
    result = SweepResult(files.directory, planned.setup.build, planned.setup.data)
    with Interrupts() as interrupts:
        driver = Driver(
            runs,
            planned.setup,
            executor,
            (files, recorder),
            timings=recorder.timings,
            interrupts=interrupts,
            callback=progress,
        )
        driver.run()
        finish(result, files, recorder, interrupts)
    return result


def pack_runs(packs: Sequence[Pack], configurations: Sequence[Configuration]) -> list[PackRun]:
    """The packs of a plan, ready to run; those that share a program know of each other."""
    chosen = [tuple(configurations[place] for place in pack.configurations) for pack in packs]
    sharing: dict[tuple[Program, int], list[int]] = {}
    for index, pack in enumerate(packs):
        sharing.setdefault((program(chosen[index][0]), pack.width), []).append(index)
    runs: list[PackRun] = []
    for index, pack in enumerate(packs):
        others = sharing[program(chosen[index][0]), pack.width]
        kinds = _kinds([configuration for other in others for configuration in chosen[other]])
        steps = sum(max(configuration.steps for configuration in chosen[other]) for other in others)
        runs.append(
            PackRun(PackTask(pack.index, pack.width, chosen[index], kinds, steps), pack.configurations)
        )
    return runs


def _kinds(configurations: Sequence[Configuration]) -> tuple[Configuration, ...]:
    """One configuration for every divergence, estimator and schedule there is among them."""
    found: dict[tuple[str, str, str], Configuration] = {}
    for one in configurations:
        found.setdefault((one.divergence.name, one.estimator.name, one.schedule.name), one)
    return tuple(found.values())


def _started(planned: PlannedSweep, name: str) -> SweepStarted:
    """The sweep's first record."""
    spec = planned.spec
    params = flattened({key: value for key, value in spec.to_dict().items() if key != "name"})
    source = spec.source.path or planned.setup.build.file
    tags = {**source_tags(source), "vi.configurations": len(planned.keys), "vi.packs": len(planned.packs)}
    return SweepStarted(
        uuid.uuid4().hex, spec.name, name, params, {**tags, "vi.data": planned.checked.data_digest}
    )
