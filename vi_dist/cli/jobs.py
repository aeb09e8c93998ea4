"""``vi-dist submit``, ``status`` and ``stop``: sweeps as jobs on a Ray cluster."""

from __future__ import annotations

import json
import re
import tempfile
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import typer

from vi_dist.cli.guard import FAILED, INTERRUPTED, say
from vi_dist.cli.job import STOPPING
from vi_dist.cli.progress import clock
from vi_dist.errors import SpecError
from vi_dist.redaction import redacted
from vi_dist.sweep.overrides import parse_overrides
from vi_dist.sweep.secret_addresses import secret_values
from vi_dist.sweep.spec import SweepSpec, load_spec

if TYPE_CHECKING:
    from vi_dist.cluster.ray_jobs import Job, RayJobs

_TAIL = 12
"""Lines of a job's log that its status shows."""


def submit(
    path: Path,
    overrides: Sequence[str],
    chosen: Mapping[str, Any],
    address: str | None,
    *,
    follow: bool,
    champion: bool,
    as_json: bool,
) -> None:
    """Check a sweep here, send it to a cluster and print the job's id; with `follow`, what it says until its end.

    With `champion` the job's sweep runs with ``--champion``.
    """
    changes = {
        **parse_overrides(overrides),
        **{name: value for name, value in chosen.items() if value is not None},
    }
    spec = load_spec(path, changes)
    check_results_outlive(spec)
    check_no_secrets(spec)
    folder = chosen.get("output_dir")
    if folder is not None and "://" not in folder:
        raise SpecError(
            f"{folder} is a folder of this machine, and the sweep runs on another; name a bucket "
            "(s3://bucket/folder), or leave it out: the job then writes to vi-dist-out in the home of the head node",
            key="output_dir",
        )
    from vi_dist.cluster.ray_jobs import RayJobs

    jobs = RayJobs(address)
    _check(spec)
    job_id = _send(jobs, spec, ("--champion",) if champion else ())
    typer.echo(json.dumps({"id": job_id, "address": redacted(jobs.address)}) if as_json else job_id)
    there = f"{job_id} --address {jobs.address}"
    say(f"vi-dist status {there}  shows it; vi-dist stop {there}  ends it")
    if follow:
        _follow(jobs, job_id)


def check_results_outlive(spec: SweepSpec) -> None:
    """Raise `SpecError` if everything that a sweep finds would stay on the disk of the cluster's head."""
    scheme = urlsplit(spec.tracking_uri or "").scheme
    tracked = bool(scheme) and scheme != "file" and not scheme.startswith("sqlite")
    if tracked or "://" in (spec.output_dir or ""):
        return
    given = f"{spec.tracking_uri!r} is a file on one machine; " if spec.tracking_uri else ""
    raise SpecError(
        f"{given}what a sweep finds must outlive the cluster: give --tracking-uri of an MLflow server that the cluster "
        "reaches (http://head:5000), or --output-dir in a bucket (s3://bucket/folder)",
        path=spec.source.path,
        key="tracking_uri",
    )


def check_no_secrets(spec: SweepSpec) -> None:
    """Raise `SpecError` for a password or a token in an address: the job's files are for everybody on the cluster."""
    for key in secret_values(spec.to_dict()):
        cure = (
            "set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD where ray start runs"
            if (key == "tracking_uri")
            else "give the nodes of the cluster access by their environment"
        )
        raise SpecError(
            f"the job would carry a password or a token to where everybody on the cluster can read it; {cure}, and "
            "write the address without it",
            path=spec.source.path,
            key=key,
        )


def _check(spec: SweepSpec) -> None:
    """Everything that `vi-dist sweep` would refuse, refused before the job waits in a queue."""
    from vi_dist.api.planning import plan_sweep
    from vi_dist.cluster.build_source import BuildSource

    plan_sweep(BuildSource(path=spec.model or ""), spec.data, spec)


def _send(jobs: RayJobs, spec: SweepSpec, options: Sequence[str]) -> str:
    from vi_dist.cluster.staging import stage

    stamp = datetime.now().strftime("%Y%m%d-%H%M%S")
    job_id = f"{re.sub(r'[^A-Za-z0-9_-]', '_', spec.name)}-{stamp}-{uuid.uuid4().hex[:4]}"
    with tempfile.TemporaryDirectory(prefix="vi_dist_job_") as folder:
        jobs.submit(job_id, spec.name, stage(spec, Path(folder)), options)
    return job_id


def _follow(jobs: RayJobs, job_id: str) -> None:
    """Print a job's log until it is over; Ctrl-C leaves it alone. Exits as the sweep did."""
    try:
        job = jobs.follow(job_id, lambda lines: typer.echo(lines, nl=False))
    except KeyboardInterrupt:
        say(f"{job_id} goes on; vi-dist stop {job_id} ends it")
        raise typer.Exit(INTERRUPTED) from None
    say(f"{job_id}: {job.status}")
    if job.status != "SUCCEEDED":
        raise typer.Exit(INTERRUPTED if job.status == "STOPPED" else FAILED)


def status(job_id: str | None, address: str | None, as_json: bool) -> None:
    """Print the sweeps of a cluster, or one of them with the end of its log."""
    from vi_dist.cluster.ray_jobs import RayJobs

    jobs = RayJobs(address)
    found = jobs.all() if job_id is None else [jobs.get(job_id)]
    if as_json:
        typer.echo(json.dumps([asdict(job) for job in found]))
        return
    if not found:
        typer.echo(f"no sweep was submitted to {jobs.address}")
    for job in found:
        typer.echo(_line(job))
    if job_id is not None:
        for line in jobs.logs(job_id).splitlines()[-_TAIL:]:
            typer.echo(f"  {line}")


def _line(job: Job) -> str:
    """A job in one line."""
    since = "" if job.seconds is None else f"  {clock(job.seconds)}"
    return f"{job.id}  {job.status}{since}"


def stop(job_id: str, address: str | None) -> None:
    """Stop a sweep, wait until its runs are closed, and pass on its last words: what is kept, and how it is resumed."""
    from vi_dist.cluster.ray_jobs import RayJobs

    jobs = RayJobs(address)
    say("stopping; what has finished is kept and the runs are closed")
    if not jobs.stop(job_id):
        say(f"{job_id} is stopping still; vi-dist status {job_id} shows how far it is")
        raise typer.Exit(FAILED)
    if told := jobs.logs(job_id).partition(STOPPING)[2].strip():
        say(told)
    typer.echo(f"{job_id} is stopped")
