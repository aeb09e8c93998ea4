"""Cutting what a run is to be told into requests that MLflow takes."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator

from mlflow.entities import Metric, Param, RunTag

Entity = Metric | Param | RunTag

LIMITS: dict[type[Entity], int] = {RunTag: 100, Param: 100, Metric: 1000}
"""Entities of a kind in one request."""
MOST_ENTITIES = 1000
MOST_CHARACTERS = 900_000
"""Of the million bytes a request may have; a little is left for its frame."""
_FRAME = 100


def requests(entities: Iterable[Entity]) -> Iterator[list[Entity]]:
    """Neighbours together, as many as the limits on number and size allow."""
    request: list[Entity] = []
    room, counts = MOST_CHARACTERS, dict(LIMITS)
    for entity in entities:
        size = _FRAME + len(json.dumps(entity.key)) + len(json.dumps(entity.value))
        if request and (len(request) == MOST_ENTITIES or not counts[type(entity)] or size > room):
            yield request
            request, room, counts = [], MOST_CHARACTERS, dict(LIMITS)
        request.append(entity)
        room -= size
        counts[type(entity)] -= 1
    if request:
        yield request
