"""Passwords and tokens in addresses: what may be shown and stored is the address with `***` in their place."""

from __future__ import annotations

import logging
import re

HIDDEN = "***"
# A scheme of bounded length: a long word without an address is then looked at once, not once from each letter.
_ADDRESS = re.compile(r"[A-Za-z0-9+.-]{1,32}://[^\s'\"<>\\`]+")
_PAIR = re.compile(r"(?P<name>[?&;#][^=?&;#\s]*)=(?P<value>[^&;#\s]+)")
_SECRET = re.compile(r"pass|pwd|secret|token|key|sig|cred|auth", re.IGNORECASE)
# Where a user's name without a password is a token, as in https://TOKEN@host.
_WEB = ("http", "https")


def redacted(text: str) -> str:
    """`text` with every password and token in an address replaced by `***`; everything else as it is.

    A password is what stands between ``user:`` and the last ``@``; a token is a user without a password in an http(s)
    address, or the value of a parameter whose name speaks of a secret (password, token, key, signature, ...).

    >>> redacted("postgresql://ada:pa/ss@head/mlflow is away")
    'postgresql://ada:***@head/mlflow is away'
    >>> redacted("https://head/rows.csv?part=2&X-Amz-Signature=0f3a"), redacted("https://ghp_1234@head:5000")
    ('https://head/rows.csv?part=2&X-Amz-Signature=***', 'https://***@head:5000')
    >>> redacted("abfs://container@account/rows.csv"), redacted("http://head:5000/a@b")
    ('abfs://container@account/rows.csv', 'http://head:5000/a@b')
    """
    return _ADDRESS.sub(lambda found: _redacted_address(found[0]), text)


def holds_secret(text: str) -> bool:
    """Whether `text` is an address with a password or a token in it, hidden already or not."""
    return redacted(text) != text or f":{HIDDEN}@" in text or f"={HIDDEN}" in text


def _redacted_address(address: str) -> str:
    scheme, _, rest = address.partition("://")
    head, at, tail = rest.rpartition("@")
    user, colon, password = head.partition(":")
    in_path = "/" in user or (
        scheme.lower() in _WEB and re.match(r"\d+/", password)
    )  # behind a host or a port
    if at and colon and not in_path:
        rest = f"{user}:{HIDDEN}@{tail}"
    elif at and not colon and "/" not in head and scheme.lower() in _WEB:
        rest = f"{HIDDEN}@{tail}"
    return f"{scheme}://{_PAIR.sub(_redacted_pair, rest)}"


def _redacted_pair(pair: re.Match[str]) -> str:
    return f"{pair['name']}={HIDDEN}" if _SECRET.search(pair["name"]) else pair[0]


class RedactingFormatter(logging.Formatter):
    """A formatter whose lines, tracebacks included, hold no password and no token of an address."""

    def format(self, record: logging.LogRecord) -> str:
        return redacted(super().format(record))
