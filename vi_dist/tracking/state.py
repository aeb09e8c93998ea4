"""What the writer has done so far: the acknowledged offset and what it led to, in one small file.

Offset and counts are replaced together, so they always belong to each other; losing the file costs a replay
from the beginning, which stores nothing twice and counts everything again.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path

from vi_dist.checked_files import read_json, replace_file, sealed_json
from vi_dist.redaction import redacted

STATE = "state.json"
KEPT_FAULTS = 10


@dataclass
class State:
    """The writer's progress through its spool.

    Args:
        offset: everything before it is in MLflow.
        ended: the last record before ``offset`` that says so was the sweep's end.
        sweep: the sweep's id.
        experiment_id: MLflow's id of the experiment.
        parent_run_id: the sweep's run.
        run_ids: configuration key to child run.
        shared_tags: tags that every child inherits.
        champion: which version the winner was registered as, and whether it is the champion, a sentence.
        views: the saved chart views are there to be linked to.
        dropped: values left out because they were not finite.
        refused: things MLflow would not take, or took only in part.
        faults: the first messages about those.
        trouble: why the store cannot be reached just now; empty when all is well.
    """

    offset: int = 0
    ended: bool = False
    sweep: str = ""
    experiment_id: str = ""
    parent_run_id: str = ""
    run_ids: dict[str, str] = field(default_factory=dict)
    shared_tags: dict[str, str] = field(default_factory=dict)
    champion: str = ""
    views: bool = False
    dropped: int = 0
    refused: int = 0
    faults: list[str] = field(default_factory=list)
    trouble: str = ""

    def refuse(self, message: str) -> None:
        """Count something MLflow would not take; the first few messages are kept."""
        self.refused += 1
        if len(self.faults) < KEPT_FAULTS:
            self.faults.append(redacted(message)[:1000])

    def save(self, directory: Path) -> None:
        """Replace the file at once, so that no reader sees half of it.

        Raises:
            OSError: the directory cannot be written.
        """
        # Without waiting for the disk: losing it costs a replay.
        replace_file(directory / STATE, sealed_json(asdict(self)), durable=False)

    @classmethod
    def load(cls, directory: Path) -> State:
        """The saved state, or a fresh one when there is none or it is damaged."""
        try:
            return cls(**read_json(directory / STATE))
        except (OSError, ValueError, TypeError):
            return cls()
