"""What happened to a connection, in words."""

from __future__ import annotations

import os


def reason_of(error: BaseException) -> str:
    """What happened to a connection, in words."""
    reasons = getattr(error, "reasons", None)
    if reasons:
        return reason_of(reasons[-1].value)
    number = getattr(error, "osError", None)
    if isinstance(number, int):
        return os.strerror(number)
    return str(error).rstrip(".") or type(error).__name__
