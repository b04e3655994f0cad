"""A cluster of one host elects it."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock

from flynnhost.cluster.election import SoloElection
from flynnhost.errors import CannotLead, JournalFailed
from tests.conftest import LoggedFailures


class Leadership:
    """Writes down what it is told, and is deposed when a test says so."""

    def __init__(self) -> None:
        self.told: list[Any] = []
        self.over: Deferred[None] = Deferred()

        self.unable = False

    def elected(self, term: int) -> Deferred[None]:
        self.told.append(term)
        return fail(CannotLead(term)) if self.unable else succeed(None)

    def deposed(self) -> Deferred[None]:
        self.told.append("deposed")
        return self.over


class Rig:
    """An election, and whoever gives it terms."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.leadership = Leadership()
        self.asked: list[Deferred[int]] = []
        self.election = SoloElection(self.clock, self.begin_term, self.leadership)

    def begin_term(self) -> Deferred[int]:
        self.asked.append(Deferred())
        return self.asked[-1]


@pytest.fixture
def rig() -> Rig:
    return Rig()


def test_elected(rig: Rig) -> None:
    """The host is elected as soon as there is a term for it."""
    rig.election.startService()
    assert rig.leadership.told == []
    rig.asked[0].callback(5)
    assert rig.leadership.told == [5]


def test_resigns(rig: Rig) -> None:
    """Stopped, the host is deposed, and the service has stopped when that is over."""
    rig.election.startService()
    rig.asked[0].callback(5)
    stopped: list[None] = []
    rig.election.stopService().addCallback(stopped.append)
    assert rig.leadership.told == [5, "deposed"]
    assert stopped == []
    rig.leadership.over.callback(None)
    assert stopped == [None]


def test_stopped_without_a_term(rig: Rig) -> None:
    """Stopped before there is a term, the host is never elected."""
    rig.election.startService()
    rig.leadership.over.callback(None)
    stopped: list[None] = []
    rig.election.stopService().addCallback(stopped.append)
    assert stopped == [None]
    rig.asked[0].callback(5)
    assert rig.leadership.told == ["deposed"]
    assert rig.clock.getDelayedCalls() == []


def test_no_term_to_be_had(rig: Rig, logged_failures: LoggedFailures) -> None:
    """While no term can be written it is tried again and again, after ever longer pauses."""
    rig.election.startService()
    for tries, error in enumerate([JournalFailed("full")] * 10 + [ZeroDivisionError()], 1):
        assert len(rig.asked) == tries
        rig.asked[-1].errback(error)
        assert len(rig.asked) == tries
        rig.clock.advance(30)
    rig.asked[-1].callback(6)
    assert rig.leadership.told == [6]
    assert len(logged_failures.flush(ZeroDivisionError)) == 1


def test_stopped_between_two_tries(rig: Rig) -> None:
    """Stopped while it pauses, it does not try again."""
    rig.election.startService()
    rig.asked[0].errback(JournalFailed("full"))
    rig.leadership.over.callback(None)
    rig.election.stopService()
    assert rig.clock.getDelayedCalls() == []
    assert len(rig.asked) == 1


def test_can_not_lead(rig: Rig) -> None:
    """A host that can't lead is deposed, and tries again with another term."""
    rig.leadership.unable = True
    rig.election.startService()
    rig.leadership.over.callback(None)
    for term in (5, 6):
        rig.asked[-1].callback(term)
        assert rig.leadership.told[-2:] == [term, "deposed"]
        rig.clock.advance(30)
    rig.leadership.unable = False
    rig.asked[-1].callback(7)
    rig.clock.advance(100)
    assert rig.leadership.told == [5, "deposed", 6, "deposed", 7]
    assert len(rig.asked) == 3
