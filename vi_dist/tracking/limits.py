"""How names, params and tags are made to fit MLflow's limits."""

from __future__ import annotations

import posixpath
import re

LONGEST_PARAM = 6000
LONGEST_TAG = 8000
LONGEST_NAME = 250


def safe_name(name: str) -> str:
    """The name with what MLflow refuses in params, metrics and tags replaced by ``_``.

    >>> safe_name("guide.rank"), safe_name("beta[0]"), safe_name("/a//b")
    ('guide.rank', 'beta_0_', 'a/b')
    """
    plain = re.sub(r"[^/\w.\-: ]", "_", name, flags=re.ASCII)[:LONGEST_NAME]
    return posixpath.normpath(plain).lstrip("./") or "_"


def cut(text: str, longest: int, ending: str = " ...") -> str:
    """The text if it is short enough, else its beginning and the ending.

    >>> cut("abcdefghij", 8), cut("abc", 8)
    ('abcd ...', 'abc')
    """
    return text if len(text) <= longest else text[: longest - len(ending)] + ending
