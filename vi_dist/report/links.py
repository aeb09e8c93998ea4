"""From a configuration to its run in MLflow, where that has an address."""

from __future__ import annotations

from pathlib import Path

from vi_dist.report.sweep_directory import SPOOL
from vi_dist.tracking.environment import is_served, without_credentials
from vi_dist.tracking.state import State
from vi_dist.tracking.sync import stored_uri
from vi_dist.tracking.views import run_url


def run_urls(directory: Path, base: str | None = None) -> dict[str, str]:
    """The page of every configuration's run by key, for those that have reached MLflow.

    Args:
        directory: a sweep's own.
        base: the address of a server; without one the sweep's own, and if that is a database there are no pages.
    """
    spool = directory / SPOOL
    if base is None:
        try:
            uri = stored_uri(spool)
        except FileNotFoundError:
            return {}
        if not is_served(uri):
            return {}
        base = without_credentials(uri)
    state = State.load(spool)
    return {key: run_url(base, state.experiment_id, run_id) for key, run_id in state.run_ids.items()}
