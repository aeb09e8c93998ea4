"""Sweeps as Ray jobs: submit, look, stop. A job needs a cluster with ``ray[default]`` and nothing of this machine."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from ray._private.ray_constants import DASHBOARD_CLIENT_MAX_SIZE
from ray._private.runtime_env.packaging import GCS_STORAGE_MAX_SIZE
from ray.exceptions import AuthenticationError
from ray.job_submission import JobStatus, JobSubmissionClient

from vi_dist.cluster.ray_token import token_refused
from vi_dist.cluster.staging import SPEC, Staged, check_size
from vi_dist.errors import SpecError

DEFAULT_ADDRESS = "http://127.0.0.1:8265"
LIMIT = min(DASHBOARD_CLIENT_MAX_SIZE, GCS_STORAGE_MAX_SIZE)
"""Bytes of an archive that the dashboard takes and the cluster keeps."""
OVER = "vi-dist: the sweep is over"
"""How the last line of a job's log begins (`vi_dist.cli.job`)."""
_OURS = "vi_dist.sweep"
_CHATTY = ("ray.dashboard.modules.dashboard_sdk", "ray.dashboard.modules.job.sdk")


@dataclass(frozen=True)
class Job:
    """A submitted sweep.

    Attributes:
        id: what Ray calls it.
        sweep: the sweep's name.
        status: PENDING, RUNNING, STOPPED, SUCCEEDED or FAILED.
        seconds: since it started, up to its end; None while it waits.
        message: Ray's, about its end.
    """

    id: str
    sweep: str
    status: str
    seconds: float | None
    message: str

    @property
    def over(self) -> bool:
        """Whether nothing more will happen."""
        return bool(JobStatus(self.status).is_terminal())


class RayJobs:
    """The jobs of one cluster.

    Authentication is Ray's own: with ``RAY_AUTH_MODE=token`` the token comes from ``RAY_AUTH_TOKEN``, the file that
    ``RAY_AUTH_TOKEN_PATH`` names, or ``~/.ray/auth_token``.

    Args:
        address: of the head's dashboard; by default ``RAY_API_SERVER_ADDRESS``, or this machine's.

    Raises:
        SpecError: nobody answers there, or the token is missing or wrong.
    """

    def __init__(self, address: str | None = None) -> None:
        self.address = address or os.environ.get("RAY_API_SERVER_ADDRESS") or DEFAULT_ADDRESS
        if self.address.startswith("ray://"):
            reason = f"{self.address!r} is Ray Client's; a job goes to the dashboard, for example {DEFAULT_ADDRESS}"
            raise SpecError(reason, key="address")
        for name in _CHATTY:
            logging.getLogger(name).setLevel(logging.WARNING)
        with self._answering():
            self._client = JobSubmissionClient(self.address)

    def submit(self, job_id: str, sweep: str, staged: Staged, options: Sequence[str] = ()) -> None:
        """Send a staged sweep as a job, run with `options`. Raises `SpecError` if it is too big for Ray."""
        check_size(staged, LIMIT)
        with self._answering():
            self._client.submit_job(
                entrypoint=" ".join(("python -m vi_dist.cli.job", SPEC, *options)),
                submission_id=job_id,
                metadata={_OURS: sweep},
                runtime_env={
                    "working_dir": str(staged.archive),
                    "env_vars": {"MLFLOW_DISABLE_TELEMETRY": "true"},
                },
            )

    def all(self) -> list[Job]:
        """The sweeps that were submitted to the cluster, newest first."""
        with self._answering():
            found = self._client.list_jobs()
        ours = [details for details in found if _OURS in (details.metadata or {})]
        return [_job(details) for details in sorted(ours, key=lambda details: -(details.start_time or 0))]

    def get(self, job_id: str) -> Job:
        """One of them. Raises `SpecError` for an id that the cluster does not know."""
        with self._answering(), self._knowing(job_id):
            return _job(self._client.get_job_info(job_id))

    def logs(self, job_id: str) -> str:
        """What the job has said so far."""
        with self._answering(), self._knowing(job_id):
            return str(self._client.get_job_logs(job_id))

    def follow(self, job_id: str, say: Callable[[str], None]) -> Job:
        """Pass on what the job says until it is over."""

        async def tail() -> None:
            async for lines in self._client.tail_job_logs(job_id):
                say(lines)

        while not (job := self.get(job_id)).over:
            asyncio.run(tail())
            time.sleep(0.2)  # its state may lag behind its log
        return job

    def stop(self, job_id: str, patience: float = 120.0) -> bool:
        """Stop a job and wait until its runs are closed; returns whether they were within `patience` seconds.

        Raises `SpecError` for a job that is over.
        """
        job = self.get(job_id)
        if job.over:
            raise SpecError(f"{job_id} is over already: {job.status}", key="ID")
        with self._answering():
            self._client.stop_job(job_id)
        # Ray kills what it started after a few seconds; the sweep itself goes on until its runs are closed.
        deadline = time.monotonic() + patience
        while time.monotonic() < deadline:
            if self.get(job_id).over and (job.status == "PENDING" or OVER in self.logs(job_id)):
                return True
            time.sleep(0.5)
        return False

    @contextlib.contextmanager
    def _answering(self) -> Iterator[None]:
        """Tell in our words why the cluster does not answer."""
        try:
            yield
        except AuthenticationError as error:
            raise token_refused(self.address, error) from error
        except ConnectionError as error:
            raise SpecError(
                f"no Ray dashboard answers at {self.address}; give that of the cluster's head, for example "
                "http://head:8265 (ray dashboard cluster.yaml forwards it to this machine)",
                key="address",
            ) from error

    @contextlib.contextmanager
    def _knowing(self, job_id: str) -> Iterator[None]:
        """Tell in our words that there is no such job."""
        try:
            yield
        except RuntimeError as error:
            if "404" not in str(error):
                raise
            known = [job.id for job in self.all()]
            raise SpecError(f"{job_id!r} is no sweep on {self.address}", key="ID", allowed=known) from error


def _job(details: Any) -> Job:
    """A job as Ray describes it."""
    seconds = None
    if details.start_time:
        seconds = (details.end_time or time.time() * 1000) / 1000 - details.start_time / 1000
    sweep = (details.metadata or {}).get(_OURS, "")
    return Job(details.submission_id or "", sweep, str(details.status.value), seconds, details.message or "")
