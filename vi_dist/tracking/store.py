"""What we ask of MLflow: few, idempotent operations with explicit run ids, each repeated until it is done."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mlflow.entities import Experiment, Metric, Param, Run, RunTag
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from vi_dist.tracking.batches import LIMITS, Entity, requests
from vi_dist.tracking.environment import database
from vi_dist.tracking.patience import Patience, Refused
from vi_dist.tracking.records import Point

SWEEP_TAG = "vi.sweep"
KEY_TAG = "vi.configuration"
ROLE_TAG = "vi.role"


@dataclass(frozen=True)
class Batch:
    """What one run is to be told at once; sent in as few requests as MLflow's limits allow."""

    metrics: Sequence[Point] = ()
    params: Mapping[str, str] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)


class Store:
    """MLflow behind one tracking URI.

    Args:
        tracking_uri: absolute.
        client: opened on that URI; opening it is what creates the schema.
        patience: repeats what fails.
    """

    def __init__(self, tracking_uri: str, client: MlflowClient, patience: Patience) -> None:
        self.tracking_uri = tracking_uri
        self.client = client
        self.patience = patience

    def experiment(self, name: str) -> str:
        """The id of the experiment of that name: made if there is none, restored if it was deleted."""
        return self.patience.call(self._experiment, name)

    def _experiment(self, name: str) -> str:
        found: Experiment | None = self.client.get_experiment_by_name(name)
        if found is None:
            return str(self.client.create_experiment(name, artifact_location=self._artifacts(name)))
        if found.lifecycle_stage == "deleted":
            self.client.restore_experiment(found.experiment_id)
        return str(found.experiment_id)

    def _artifacts(self, name: str) -> str | None:
        """Beside a sqlite file, by absolute path; a server knows its own place."""
        file = database(self.tracking_uri)
        if file is None:
            return None
        return (file.parent / "mlartifacts" / re.sub(r"[^\w.-]+", "_", name)).as_uri()

    def runs(self, experiment_id: str, sweep: str, key: str | None = None) -> list[Run]:
        """The sweep's runs, oldest first: all of them, or those of one configuration."""
        conditions = [f"tags.`{SWEEP_TAG}` = '{sweep}'"]
        if key is not None:
            conditions.append(f"tags.`{KEY_TAG}` = '{key}'")
        return self.patience.call(self._search, experiment_id, " and ".join(conditions))

    def _search(self, experiment_id: str, condition: str) -> list[Run]:
        runs: list[Run] = []
        token: str | None = None
        while True:
            page = self.client.search_runs(
                [experiment_id],
                condition,
                max_results=1000,
                order_by=["attributes.start_time ASC"],
                page_token=token,
            )
            runs += page
            token = page.token
            if not token:
                return runs

    def create(self, experiment_id: str, name: str, tags: Mapping[str, str], start_ms: int) -> str:
        """A new run; by its tags for sweep and key it is found again if the answer is lost."""
        asked = False

        def attempt() -> str:
            nonlocal asked
            if asked:
                # The store may have made the run and died before it could say so.
                condition = " and ".join(f"tags.`{tag}` = '{tags[tag]}'" for tag in (SWEEP_TAG, KEY_TAG))
                if found := self._search(experiment_id, condition):
                    return str(found[0].info.run_id)
            asked = True
            run = self.client.create_run(experiment_id, start_time=start_ms, tags=dict(tags), run_name=name)
            return str(run.info.run_id)

        return self.patience.call(attempt)

    def log(self, run_id: str, batch: Batch) -> list[str]:
        """Store everything in the batch; returns what was refused, one message each."""
        entities: list[Entity] = [RunTag(name, value) for name, value in batch.tags.items()]
        entities += [Param(name, value) for name, value in batch.params.items()]
        entities += [Metric(name, value, stamp, step) for name, step, value, stamp in batch.metrics]
        return [message for request in requests(entities) for message in self._send(run_id, request)]

    def _send(self, run_id: str, entities: Sequence[Entity]) -> list[str]:
        """One request; if it is refused, in parts, so that one bad param takes nothing else with it."""
        kinds = {kind: [item for item in entities if isinstance(item, kind)] for kind in LIMITS}
        try:
            self.patience.call(
                self.client.log_batch,
                run_id,
                metrics=kinds[Metric],
                params=kinds[Param],
                tags=kinds[RunTag],
            )
        except Refused as fault:
            parts = [part for part in kinds.values() if part]
            if len(parts) == 1 and entities[0] in kinds[Metric]:
                return [str(fault)]
            if len(parts) == 1:
                parts = [[item] for item in entities]
            if len(entities) == 1:
                return [str(fault)]
            return [message for part in parts for message in self._send(run_id, part)]
        return []

    def end(self, run_id: str, status: str, end_ms: int) -> None:
        """Close a run with one of MLflow's statuses."""
        self.patience.call(self.client.set_terminated, run_id, status, end_ms)

    def reopen(self, run_id: str) -> None:
        """Let a closed run go on."""
        self.patience.call(self.client.update_run, run_id, status="RUNNING")

    def find_run(self, run_id: str) -> Run | None:
        """The run of an id, also one in the trash; None if the store never had it."""
        return self.patience.call(self._find_run, run_id)

    def _find_run(self, run_id: str) -> Run | None:
        try:
            return self.client.get_run(run_id)
        except MlflowException as fault:
            if fault.error_code == "RESOURCE_DOES_NOT_EXIST":
                return None
            raise

    def delete(self, run_id: str) -> None:
        """Put a run into MLflow's trash."""
        self.patience.call(self.client.delete_run, run_id)

    def upload(self, run_id: str, path: Path, folder: str) -> None:
        """Keep a file, or a directory's content, among the run's artifacts."""
        if path.is_dir():
            self.patience.call(self.client.log_artifacts, run_id, str(path), folder or None)
        else:
            self.patience.call(self.client.log_artifact, run_id, str(path), folder or None)

    def write_text(self, run_id: str, text: str, file: str) -> None:
        """Keep a text as one of the run's artifacts."""
        self.patience.call(self.client.log_text, run_id, text, file)

    def write_table(self, run_id: str, table: str, file: str) -> None:
        """Keep a table (JSON, "split") where the run's page shows it; ``log_table`` would append to it."""
        self.write_text(run_id, table, file)
        run = self.patience.call(self.client.get_run, run_id)
        shown = json.loads(run.data.tags.get("mlflow.loggedArtifacts", "[]"))
        entry = {"path": file, "type": "table"}
        if entry not in shown:
            self.log(run_id, Batch(tags={"mlflow.loggedArtifacts": json.dumps([*shown, entry])}))
