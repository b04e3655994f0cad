"""Looking at what may hang."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from attrs import define, field
from twisted.internet.defer import Deferred

from flynnhost.looks import FRESH, WITHIN, Looks, in_a_thread
from tests.conftest import LoggedFailures
from tests.support.threads_reactor import ThreadsReactor


@define(eq=False)
class Rig:
    """Somebody who looks; what is seen is how often it was looked."""

    reactor: ThreadsReactor = field(factory=ThreadsReactor)
    begun: list[Callable[[], None]] = field(factory=list)
    seen: list[str] = field(factory=list)
    trouble: Exception | None = None
    looks: Looks[str, int] = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.looks = Looks(self.reactor, self.look, self.begun.append)

    def look(self, at: str) -> int:
        if self.trouble is not None:
            raise self.trouble
        self.seen.append(at)
        return len(self.seen)

    def ask(self, at: str = "a") -> list[int | None]:
        told: list[int | None] = []
        self.looks.now(at).addCallback(told.append)
        return told

    def finish(self) -> None:
        """The look that was begun comes to its end."""
        looked = len(self.begun)
        self.begun.pop(0)()
        self.reactor.run_until(lambda: len(self.begun) == looked or not self.looks._looking)


@pytest.fixture
def rig() -> Rig:
    return Rig()


def test_one_look_for_all(rig: Rig) -> None:
    """All who ask the same meanwhile are told of the one look, and those who ask a moment later too."""
    answers = [rig.ask(), rig.ask()]
    assert answers == [[], []]
    rig.finish()
    assert answers == [[1], [1]]
    assert (rig.ask(), rig.seen) == ([1], ["a"])
    rig.reactor.advance(FRESH)
    later = rig.ask()
    rig.finish()
    assert (later, rig.seen) == ([2], ["a", "a"])
    assert rig.reactor.getDelayedCalls() == []


def test_looks_elsewhere(rig: Rig) -> None:
    """Those who ask for something else get a look of their own, also a moment later."""
    first, other, same = rig.ask("a"), rig.ask("b"), rig.ask("a")
    rig.finish()
    assert (first, other, same) == ([1], [], [1])
    rig.finish()
    assert (other, rig.seen) == ([2], ["a", "b"])
    again = rig.ask("a")
    rig.finish()
    assert (again, rig.seen) == ([3], ["a", "b", "a"])
    assert rig.reactor.getDelayedCalls() == []


def test_hangs(rig: Rig) -> None:
    """A look that hangs holds nobody up: they are told what was seen last, and no other look is begun."""
    first = rig.ask()
    rig.reactor.advance(WITHIN)
    assert (first, len(rig.begun)) == ([None], 1)
    rig.finish()
    rig.reactor.advance(FRESH)
    second = rig.ask()
    rig.reactor.advance(WITHIN / 2)
    third = rig.ask()
    rig.reactor.advance(WITHIN / 2)
    assert (second, third, len(rig.begun)) == ([1], [], 1)
    rig.reactor.advance(WITHIN)
    assert third == [1]


def test_fails(rig: Rig, logged_failures: LoggedFailures) -> None:
    """What fails is logged, and the next who asks has it looked again."""
    rig.trouble = ZeroDivisionError("odd")
    told = rig.ask()
    rig.finish()
    assert (told, len(logged_failures.flush(ZeroDivisionError))) == ([None], 1)
    rig.trouble = None
    again = rig.ask()
    rig.finish()
    assert again == [1]


def test_gives_up(rig: Rig) -> None:
    """Who is gone is not told."""
    answer: Deferred[int | None] = rig.looks.now("a")
    others = rig.ask()
    answer.addErrback(lambda _: None)
    answer.cancel()
    rig.finish()
    assert others == [1]
    assert rig.reactor.getDelayedCalls() == []


def test_thread() -> None:
    """In a real thread it is the same."""
    rig = Rig()
    rig.looks._begin = in_a_thread
    told = rig.ask()
    rig.reactor.run_until(lambda: told)
    assert told == [1]
