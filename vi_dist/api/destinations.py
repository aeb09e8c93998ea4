"""Where a sweep's results and records go, checked before anything starts."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit

from vi_dist.cluster.remote_output import check_folder, check_output
from vi_dist.sweep.spec import SweepSpec
from vi_dist.tracking.environment import check_tracking_uri, database


def check_destinations(spec: SweepSpec) -> None:
    """Raise `SpecError` if nothing can be written to the output directory, or MLflow cannot be where the spec says."""
    with spec.source.placing():
        check_output(spec.output_dir)
        if spec.tracking_uri is None:
            return
        place = check_tracking_uri(spec.tracking_uri)
        if (file := database(place)) is not None:
            check_folder(file.parent, "tracking_uri")
        elif (parts := urlsplit(place)).scheme in ("", "file"):
            check_folder(Path(parts.path), "tracking_uri")
