"""The packages that vi_dist is compared with: there, or one sentence."""

from __future__ import annotations

from importlib.util import find_spec


def require(*packages: str) -> None:
    """Leave with a sentence if one of these packages is missing."""
    missing = [package for package in packages if find_spec(package) is None]
    if missing:
        raise SystemExit(
            f"{' and '.join(missing)} not installed: install the bench extra with "
            "pip install -c constraints.txt -e '.[bench]', or leave the peers out with --sides eager,compiled"
        )
