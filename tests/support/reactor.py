"""Tests that run on the real reactor."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, ParamSpec, cast

import pytest_twisted

P = ParamSpec("P")


def on_reactor(test: Callable[P, Coroutine[Any, Any, None]]) -> Callable[P, Coroutine[Any, Any, None]]:
    """Run an ``async def`` test on the global reactor: ``pytest_twisted.ensureDeferred``, with types."""
    return cast(Callable[P, Coroutine[Any, Any, None]], pytest_twisted.ensureDeferred(test))
