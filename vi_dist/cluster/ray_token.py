"""A Ray cluster that asks for a token."""

from __future__ import annotations

from ray.exceptions import AuthenticationError

from vi_dist.errors import SpecError


def token_refused(address: str, error: AuthenticationError) -> SpecError:
    """The mistake of a missing or wrong token, with what sets the right one.

    Args:
        address: of the cluster, as the user gave it.
        error: Ray's.
    """
    return SpecError(
        f"the cluster at {address} asks for a token: {error.message.splitlines()[0]}. Set RAY_AUTH_MODE=token, and "
        "RAY_AUTH_TOKEN or RAY_AUTH_TOKEN_PATH to the cluster's token (default: ~/.ray/auth_token)",
        key="address",
    )
