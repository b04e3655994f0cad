"""Signals by name and number."""

from __future__ import annotations

import signal

_HIGHEST = 64


def signal_number(text: str) -> int:
    """The number of a signal: ``15``, ``TERM``, ``SIGTERM`` or ``term``.

    :raises ValueError: when there is none such; it says so.
    """
    if text.isascii() and text.isdecimal():
        if 1 <= int(text[:4]) <= _HIGHEST:
            return int(text)
        raise ValueError(f"signals have numbers from 1 to {_HIGHEST}, not {text}")
    name = text.upper().removeprefix("SIG")
    try:
        return int(signal.Signals[f"SIG{name}"])
    except KeyError:
        raise ValueError(f"there is no signal {text!r}; there are HUP, INT, TERM, KILL and others") from None
