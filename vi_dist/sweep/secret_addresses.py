"""The passwords and tokens in a spec's addresses: kept apart from it, in a file that its owner alone may read."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vi_dist.checked_files import read_json, sealed_json
from vi_dist.errors import SpecError
from vi_dist.redaction import HIDDEN, redacted

SECRETS = "secrets.json"
"""In a sweep's directory: the keys of its spec whose addresses hold a secret, in full; mode 600."""


def redacted_values(values: Mapping[str, Any]) -> dict[str, Any]:
    """A spec's values as they may be shown and stored: `***` for every password and token of an address."""
    return {key: _redacted(value) for key, value in values.items()}


def secret_values(values: Mapping[str, Any]) -> dict[str, Any]:
    """Those of a spec's values that hold a password or a token."""
    return {key: value for key, value in values.items() if _redacted(value) != value}


def write_secrets(directory: Path, values: Mapping[str, Any]) -> None:
    """Keep what `redacted_values` takes out of a spec; nothing is written where it holds no secret."""
    if not (secrets := secret_values(values)):
        return
    draft = directory / f"{SECRETS}.new"
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(sealed_json(secrets))
    os.replace(draft, directory / SECRETS)


def read_secrets(directory: Path) -> dict[str, Any]:
    """What `write_secrets` kept, by the spec's keys; empty where there was nothing, or the file is gone."""
    file = directory / SECRETS
    if not file.exists():
        return {}
    return read_json(file, "delete it, and give the addresses in full again (--tracking-uri, --set)")


def check_complete(values: Mapping[str, Any]) -> None:
    """Raise `SpecError` for an address whose secret was taken out and is not there any more."""
    for key, value in values.items():
        for one in value if isinstance(value, list) else [value]:
            if isinstance(one, str) and "://" in one and (f":{HIDDEN}@" in one or f"={HIDDEN}" in one):
                reason = f"{one} has {HIDDEN} in place of a password or a token; give the address in full"
                raise SpecError(reason, key=key)


def _redacted(value: Any) -> Any:
    if isinstance(value, list):
        return [_redacted(one) for one in value]
    return redacted(value) if isinstance(value, str) else value
