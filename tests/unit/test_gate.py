"""Waiting for a state of things."""

from __future__ import annotations

from twisted.internet.defer import CancelledError, Deferred
from twisted.python.failure import Failure

from flynnhost.gate import Gate


def test_open() -> None:
    """All who wait go on when the gate is opened, in order, and who comes later at once."""
    gate, told = Gate(), list[str]()
    gate.wait().addCallback(lambda _: told.append("a"))
    gate.wait().addCallback(lambda _: told.append("b"))
    assert not gate.is_open
    assert told == []
    gate.open()
    assert told == ["a", "b"]
    gate.open()
    gate.wait().addCallback(lambda _: told.append("c"))
    assert told == ["a", "b", "c"]


def test_shut_again() -> None:
    """Who comes when the gate is shut again waits until it is opened again."""
    gate, told = Gate(), list[None]()
    gate.open()
    gate.shut()
    gate.wait().addCallback(told.append)
    assert (told, gate.is_open) == ([], False)
    gate.open()
    assert told == [None]


def test_cancelled() -> None:
    """A wait that is cancelled ends, and the others go on."""
    gate, told = Gate(), list[None]()
    first, second = gate.wait(), gate.wait()
    second.addCallback(told.append)
    first.cancel()
    assert isinstance(_failure_of(first), CancelledError)
    assert len(gate._waiters) == 1
    gate.open()
    assert told == [None]


def test_cancelled_by_one_who_goes_on() -> None:
    """One who goes on can end another's wait, shut the gate, and wait again."""
    gate = Gate()
    again: list[Deferred[None]] = []
    first, second = gate.wait(), gate.wait()

    def went_on(_: None) -> None:
        second.cancel()
        gate.shut()
        again.append(gate.wait())

    first.addCallback(went_on)
    gate.open()
    assert isinstance(_failure_of(second), CancelledError)
    assert not again[0].called
    assert not gate.is_open
    gate.open()
    assert again[0].called


def _failure_of(waiter: Deferred[None]) -> BaseException | None:
    failures: list[Failure] = []
    waiter.addErrback(failures.append)
    return failures[0].value
