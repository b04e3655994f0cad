"""The clock for simulations of many hosts."""

from __future__ import annotations

import random
from typing import Any

import pytest
from twisted.internet.task import Clock

from flynnhost.testing.swift_clock import SwiftClock


def history(clock: Any, seed: int) -> list[Any]:
    """What is called, and when, when calls are made, put off, brought forward and cancelled by chance."""
    chance = random.Random(seed)
    told: list[Any] = []
    waiting: list[Any] = []

    def called(number: int) -> None:
        told.append((number, clock.seconds()))
        if number % 3 == 0:
            make(number + 1000)

    def make(number: int) -> None:
        waiting.append(clock.callLater((number % 8 + 1) / 4, called, number))

    for number in range(200):
        make(number)
        call = min(waiting, key=lambda call: (call.args[0] * 7919 % 1009, call.args[0]))
        waiting.remove(call)
        if call.active():
            chance.choice([call.cancel, lambda call=call: call.reset(1.25), lambda: None])()
        if chance.random() < 0.3:
            clock.advance(0.25)
        told.append(len(clock.getDelayedCalls()))
    clock.advance(0.25)
    return told


@pytest.mark.parametrize("seed", range(5))
def test_like_the_other_clock(seed: int) -> None:
    """It does the same as the one of Twisted, each call at its time."""
    assert sorted(map(str, history(SwiftClock(), seed))) == sorted(map(str, history(Clock(), seed)))


def test_each_call_at_its_time() -> None:
    """Time passes from one call to the next."""
    clock = SwiftClock()
    told: list[float] = []
    for seconds in (3.0, 1.0, 2.0):
        clock.callLater(seconds, lambda: told.append(clock.seconds()))
    clock.advance(2.5)
    assert (told, clock.seconds()) == ([1.0, 2.0], 2.5)
