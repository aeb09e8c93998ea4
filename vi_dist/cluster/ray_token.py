"""Ray clusters that ask for a token."""

from __future__ import annotations

from ray._raylet import GcsClient  # type: ignore[attr-defined] # its stubs lack it
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


def check_token(address: str) -> None:
    """Raise `SpecError` if the cluster at ``host:port`` refuses our token.

    `ray.init` would try for half a minute, and then say no more than that it cannot connect.
    """
    if "://" in address or ":" not in address:
        return
    try:
        GcsClient(address=address)
    except AuthenticationError as error:
        raise token_refused(address, error) from error
    except Exception:  # for `ray.init` to tell
        return
