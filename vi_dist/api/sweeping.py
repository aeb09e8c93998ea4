"""A sweep from its spec to its result: check, plan, run, keep."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from vi_dist.api.checks import check_other_shards
from vi_dist.api.course import open_course
from vi_dist.api.destinations import check_destinations
from vi_dist.api.finishing import Origin, finish
from vi_dist.api.objective import Objective, scoring
from vi_dist.api.planning import PlannedSweep, plan_sweep
from vi_dist.api.resuming import check_same, first_spec
from vi_dist.api.sweep_result import SweepResult
from vi_dist.cluster.build_source import BuildSource
from vi_dist.cluster.checkpoints import check_writable, forget_all, set_damaged_aside
from vi_dist.cluster.driver import Driver
from vi_dist.cluster.executor import Executor
from vi_dist.cluster.executors import make_executor
from vi_dist.cluster.fault import one_line
from vi_dist.cluster.interrupts import Interrupts
from vi_dist.cluster.journal import Journal
from vi_dist.cluster.observer import ReleasesResults
from vi_dist.cluster.progress import ProgressCallback
from vi_dist.cluster.recorder import Recorder
from vi_dist.cluster.remote_output import local_output, publish
from vi_dist.cluster.run_params import flattened
from vi_dist.cluster.setup import Setup
from vi_dist.cluster.sweep_files import SweepFiles
from vi_dist.cluster.time_limits import TimeLimits
from vi_dist.cluster.timings import Timings
from vi_dist.errors import SpecError
from vi_dist.model.storage import is_address
from vi_dist.sweep.secret_addresses import redacted_values, write_secrets
from vi_dist.sweep.spec import SweepSpec
from vi_dist.tracking.environment import default_tracking_uri
from vi_dist.tracking.provenance import source_tags
from vi_dist.tracking.records import SweepEnded, SweepStarted
from vi_dist.tracking.state import State
from vi_dist.tracking.sync import named_uri
from vi_dist.tracking.tracker import Tracker

_PATIENCE = 30.0
"""Seconds without progress that the tracking of a sweep which bad input ended is waited for."""


def run_sweep(
    build: BuildSource,
    data: object,
    spec: SweepSpec,
    *,
    progress: ProgressCallback | None = None,
    timings: Timings | None = None,
    objective: Objective | None = None,
    initial_values: Mapping[Any, Any] | None = None,
    resumed: Path | None = None,
    executor: Executor | None = None,
    aside: Iterable[object] = (),
    champion: bool = False,
) -> SweepResult:
    """Run a sweep; see `Experiment.sweep`.

    Args:
        objective: the callable that the spec speaks of.
        resumed: the directory of a sweep that died or was interrupted, which goes on where it stood.
        executor: where the packs run, prepared already; it is closed. By default what the spec says.
        aside: see `Driver`.
        champion: make the winner the registered model's champion in any case (`champion.why_it_stays`).
    """
    timings = timings or Timings()
    if resumed is None:
        check_destinations(spec)
    if executor is None:
        executor = make_executor(spec)
        executor.prepare()
    try:
        planned = plan_sweep(build, data, spec, initial_values, scored=objective is not None)
        if planned.setup.shards is not None:
            check_other_shards(planned.setup, spec.dtype, executor)
            check_writable(spec.checkpoint_dir)
        if resumed is None:
            output = local_output(spec.output_dir)
            files = SweepFiles.create(output, spec.name, planned.keys, planned.objective)
            # What is copied elsewhere takes its database along.
            store = files.directory if is_address(spec.output_dir) else output
            tracker = Tracker(files.spool, spec.tracking_uri or default_tracking_uri(store))
        else:
            check_same(planned, resumed)
            files = SweepFiles(resumed, planned.keys, planned.objective)
            changed = spec.tracking_uri if "tracking_uri" in spec.source.overridden else None
            tracker = Tracker(files.spool, changed or named_uri(files.spool))
        shards = placed(planned.setup, spec, files.directory).shards
        lost = set_damaged_aside(shards.directory) if shards is not None and resumed is not None else ()
        journal = Journal(executor, files.journal, lost)
        # MLflow takes a parameter's value once: of a sweep that goes on elsewhere it keeps where it began.
        began = spec if resumed is None else first_spec(resumed, spec)
        write_secrets(files.directory, began.to_dict())
        files.write_plan(planned.configurations, planned.packs, began.to_yaml(), build.file_digest())
        recorder = Recorder(
            tracker,
            planned.configurations,
            planned.keys,
            timings,
            total=spec.configurations or 0,
            objective=planned.objective,
            kinds=() if planned.search is None else planned.search.kinds,
        )
        with timings.tracked():
            tracker.start()
        recorder.write(started(planned, began, files.directory.name, State.load(files.spool).sweep))
        with _closing(recorder), _published(files.directory, spec.output_dir):
            return _run(planned, journal, files, recorder, progress, objective, aside, champion)
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
        # Who has to mend something and call again is still here: the writer is not left running.
        recorder.tracker.close(timeout=_PATIENCE if isinstance(error, SpecError) else 0)
        raise


@contextmanager
def _published(directory: Path, output_dir: str | None) -> Iterator[None]:
    """However the sweep ends, what there is of it is copied to where it was asked for."""
    try:
        yield
    finally:
        if output_dir is not None and is_address(output_dir):
            publish(directory, output_dir)


def _run(
    planned: PlannedSweep,
    journal: Journal,
    files: SweepFiles,
    recorder: Recorder,
    progress: ProgressCallback | None,
    objective: Objective | None,
    aside: Iterable[object],
    champion: bool,
) -> SweepResult:
    """From the first pack to the result on disk."""
    spec = planned.spec
    observers = (files, recorder, ReleasesResults())
    setup = placed(planned.setup, spec, files.directory)
    course = open_course(planned, files, observers)
    budget = None if spec.budget is None else 60 * spec.budget.minutes
    result = SweepResult(files.directory, setup=setup)
    with Interrupts() as interrupts:
        driver = Driver(
            course.first,
            setup,
            journal,
            observers,
            timings=recorder.timings,
            interrupts=interrupts,
            callback=progress,
            follow=course.follow,
            limits=TimeLimits(budget, spec.time_limit, recorder.timings.began),
            expected=course.expected,
            objective=planned.objective,
            score=None if objective is None else scoring(objective, planned, files.directory),
            aside=aside,
        )
        driver.run()
        finish(result, files, recorder, interrupts, origin(planned, champion))
    if not result.interrupted:
        files.reach_disk()
        journal.forget()
        if setup.shards is not None:
            forget_all(setup.shards.directory)
    return result


def placed(setup: Setup, spec: SweepSpec, directory: Path) -> Setup:
    """The setup whose shards know where to keep things: the sweep's directory, or one of its name elsewhere."""
    if setup.shards is None:
        return setup
    # Of its name, or sweeps would go on from one another's checkpoints.
    elsewhere = spec.checkpoint_dir and f"{spec.checkpoint_dir.rstrip('/')}/{directory.name}"
    return replace(setup, shards=replace(setup.shards, directory=elsewhere or str(directory)))


def origin(planned: PlannedSweep, champion: bool) -> Origin:
    """What the winner of a planned sweep is of; see `Origin`."""
    data, holdout = planned.checked.data_digest, planned.setup.holdout
    if holdout is not None:
        data += f" without {holdout.count} rows of seed {holdout.seed}"
    return Origin(planned.setup.build.digest(), data, champion)


def started(planned: PlannedSweep, began: SweepSpec, name: str, sweep: str = "") -> SweepStarted:
    """The sweep's first record; `began` is the spec with which it began, `sweep` its id if it has one already."""
    spec = planned.spec
    shown = redacted_values(began.to_dict())
    params = flattened({key: value for key, value in shown.items() if key != "name"})
    source = spec.source.path or planned.setup.build.file
    tags = {**source_tags(source), "vi.configurations": len(planned.keys), "vi.packs": len(planned.packs)}
    return SweepStarted(
        sweep or uuid.uuid4().hex, spec.name, name, params, {**tags, "vi.data": planned.checked.data_digest}
    )
