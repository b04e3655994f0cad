"""Signals of commands that have a reactor."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from typing import Any

import pytest

from flynnhost.cli.in_reactor import Signals
from tests.support.served_host import in_the_reactor
from tests.support.waiting import until


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    """The signals of the tests themselves."""
    kept = {number: signal.getsignal(number) for number in (signal.SIGHUP, signal.SIGTERM, signal.SIGUSR1)}
    yield
    for number, handler in kept.items():
        signal.signal(number, handler)


@in_the_reactor
async def test_signals_are_handled_or_end_the_command(clean_reactor: Any) -> None:
    ended: list[int] = []
    handled: list[int] = []
    signals = Signals(clean_reactor, ended.append)
    signals.install()
    signals.handle(signal.SIGTERM, handled.append)
    signals.handle(signal.SIGUSR1, handled.append)
    try:
        for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP):
            os.kill(os.getpid(), number)
        await until(clean_reactor, lambda: len(handled) == 2 and ended, "all signals")
        signals.handle(signal.SIGTERM, None)
        os.kill(os.getpid(), signal.SIGTERM)
        await until(clean_reactor, lambda: len(ended) == 2, "the last one")
    finally:
        signals.restore()
    assert sorted(handled) == [signal.SIGUSR1, signal.SIGTERM]
    assert ended == [signal.SIGHUP, signal.SIGTERM]


@in_the_reactor
async def test_signals_that_are_ignored_stay_so(clean_reactor: Any) -> None:
    """As nohup wants it."""
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signals = Signals(clean_reactor, lambda _: None)
    signals.install()
    signals.handle(signal.SIGHUP, lambda _: None)
    assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    signals.restore()
    assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
