"""The leader role: one leader at a time, however often this host is elected and deposed."""

from __future__ import annotations

import gc
import weakref
from typing import Any

import pytest
from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure
from zope.interface.verify import verifyObject

from flynnhost.cluster.role import LeaderRole, Leading
from flynnhost.errors import CannotLead, NoLeader
from flynnhost.interfaces import ICluster
from flynnhost.model import Host
from flynnhost.testing.agent import FakeCluster
from tests.conftest import LoggedFailures


class FakeLeader(Service):
    """What leads for a term, and stops when a test says so, or at once."""

    def __init__(self, term: int, leaders: Leaders) -> None:
        self.term = term
        self.leaders = leaders
        self.stopping: Deferred[None] | None = None if leaders.stop_at_once else Deferred()
        self.cluster = FakeCluster()
        self.cluster.add_host(Host(f"of-term-{term}"))

    def startService(self) -> None:
        super().startService()
        self.leaders.begun(self)
        if self.leaders.start_error is not None:
            raise self.leaders.start_error

    def stopService(self) -> Any:
        super().stopService()
        if self.stopping is None:
            self.leaders.over(self)
            return None
        return self.stopping.addBoth(self._stopped)

    def _stopped(self, result: Any) -> Any:
        self.leaders.over(self)
        return result


class Leaders:
    """Makes leaders, and checks that there are never two."""

    def __init__(self) -> None:
        self.terms: list[int] = []
        self.present: FakeLeader | None = None
        self.stop_at_once = True
        self.make_error: Exception | None = None
        self.start_error: Exception | None = None

    def make(self, term: int) -> Leading:
        if self.make_error is not None:
            raise self.make_error
        leader = FakeLeader(term, self)
        return Leading(leader, leader.cluster)

    def begun(self, leader: FakeLeader) -> None:
        assert self.present is None, "two leaders at once"
        self.present = leader
        self.terms.append(leader.term)

    def over(self, leader: FakeLeader) -> None:
        assert self.present is leader
        self.present = None

    def let_stop(self, error: Exception | None = None) -> None:
        """Let the present leader come to its end."""
        assert self.present is not None
        assert self.present.stopping is not None
        if error is None:
            self.present.stopping.callback(None)
        else:
            self.present.stopping.errback(error)


@pytest.fixture
def leaders() -> Leaders:
    return Leaders()


@pytest.fixture
def slow(leaders: Leaders) -> Leaders:
    """The same, of leaders that take their time to stop."""
    leaders.stop_at_once = False
    return leaders


@pytest.fixture
def role(leaders: Leaders) -> LeaderRole:
    role = LeaderRole(leaders.make)
    role.startService()
    return role


def fired(deferred: Deferred[Any]) -> list[Any]:
    found: list[Any] = []
    deferred.addBoth(lambda result: found.append(result.value if isinstance(result, Failure) else result))
    return found


def elect(role: LeaderRole, term: int) -> list[Any]:
    """Elect it; whether it leads, in a word, when that is known."""
    words: list[Any] = []

    def unable(failure: Failure) -> None:
        failure.trap(CannotLead)
        words.append(f"unable in term {term}")

    role.elected(term).addCallbacks(lambda _: words.append("done"), unable)
    return words


def leads(role: LeaderRole) -> str:
    """Whose cluster it is that is shown; empty if nobody's."""
    try:
        (host,) = role.hosts()
    except NoLeader:
        with pytest.raises(NoLeader):
            role.complete()
        with pytest.raises(NoLeader):
            role.leader()
        with pytest.raises(NoLeader):
            role.events  # noqa: B018
        assert isinstance(fired(role.submit({}))[0], NoLeader)
        return ""
    assert role.complete()
    assert role.leader()
    assert fired(role.submit({})) == [[]]
    return host.id


def test_interface(role: LeaderRole, leaders: Leaders) -> None:
    """It has all that the interface names."""
    role.elected(1)
    verifyObject(ICluster, role)
    assert leaders.present is not None
    assert role.events is leaders.present.cluster.events


def test_follows(role: LeaderRole, leaders: Leaders) -> None:
    """Until it is elected it leads nothing, and says so."""
    assert leads(role) == ""
    assert leaders.terms == []


def test_elected(role: LeaderRole, leaders: Leaders) -> None:
    """Elected, it leads at once."""
    assert elect(role, 1) == ["done"]
    assert leads(role) == "of-term-1"
    assert leaders.present is not None
    assert leaders.present.running


def test_deposed(role: LeaderRole, slow: Leaders) -> None:
    """Deposed, it answers for nobody at once, and is done when its leader has stopped."""
    role.elected(1)
    over = fired(role.deposed())
    assert leads(role) == ""
    assert over == []
    slow.let_stop()
    assert over == [None]
    assert slow.present is None


def test_deposed_without_leading(role: LeaderRole, leaders: Leaders) -> None:
    """One that does not lead is deposed at once."""
    assert fired(role.deposed()) == [None]


def test_deposed_again_while_stopping(role: LeaderRole, slow: Leaders) -> None:
    """All who depose it are told when it is over; one who waits no more harms no other."""
    role.elected(1)
    first = role.deposed()
    given_up, second = fired(first), fired(role.deposed())
    first.cancel()
    assert second == []
    slow.let_stop()
    assert second == [None]
    assert len(given_up) == 1


def test_elected_while_stopping(role: LeaderRole, slow: Leaders) -> None:
    """Elected again before its leader has stopped, it leads again when that is over, not before."""
    role.elected(1)
    over = fired(role.deposed())
    role.elected(2)
    assert leads(role) == ""
    slow.let_stop()
    assert over == [None]
    assert leads(role) == "of-term-2"


def test_elected_and_deposed_while_stopping(role: LeaderRole, slow: Leaders) -> None:
    """Elected and deposed again before its leader has stopped, it follows when that is over."""
    role.elected(1)
    first = fired(role.deposed())
    begun = elect(role, 2)
    second = fired(role.deposed())
    assert begun == ["done"]
    slow.let_stop()
    assert first == second == [None]
    assert leads(role) == ""
    assert slow.terms == [1]


def test_elected_twice_while_stopping(role: LeaderRole, slow: Leaders) -> None:
    """Of several elections while its leader stops the last one counts."""
    role.elected(1)
    role.deposed()
    begun = [elect(role, term) for term in (2, 3, 4)]
    assert begun == [["done"], ["done"], []]
    slow.let_stop()
    assert slow.terms == [1, 4]
    assert begun[-1] == ["done"]


def test_does_not_start_in_the_end(role: LeaderRole, slow: Leaders, logged_failures: LoggedFailures) -> None:
    """One that had to wait for the last leader's end, and can't start then, says so."""
    role.elected(1)
    role.deposed()
    begun = elect(role, 2)
    slow.make_error = ZeroDivisionError()
    slow.let_stop()
    assert begun == ["unable in term 2"]
    assert fired(role.deposed()) == [None]
    assert len(logged_failures.flush(ZeroDivisionError)) == 1


def test_nobody_waits_for_the_begin(role: LeaderRole, slow: Leaders) -> None:
    """Whoever has elected it need not wait until it leads."""
    role.elected(1)
    role.deposed()
    waiting = role.elected(2)
    given_up = fired(waiting)
    waiting.cancel()
    slow.let_stop()
    assert leads(role) == "of-term-2"
    assert len(given_up) == 1


def test_elected_while_leading(role: LeaderRole, slow: Leaders) -> None:
    """A new term is led by a new leader, when the old one has stopped."""
    role.elected(1)
    role.elected(2)
    assert leads(role) == ""
    slow.let_stop()
    assert leads(role) == "of-term-2"


@pytest.mark.parametrize("stop_at_once", [True, False])
def test_flapping(role: LeaderRole, leaders: Leaders, stop_at_once: bool) -> None:
    """Elected and deposed ten times in a row, it leaves nothing of its leaders behind."""
    leaders.stop_at_once = stop_at_once
    gone = []
    for term in range(1, 11):
        role.elected(term)
        assert leaders.present is not None
        gone.append(weakref.ref(leaders.present))
        over = fired(role.deposed())
        if not stop_at_once:
            leaders.let_stop()
        assert over == [None]
    assert leaders.terms == list(range(1, 11))
    gc.collect()
    assert [each() for each in gone] == [None] * 10
    assert role._core.waiting == []


def test_flapping_while_stopping(role: LeaderRole, slow: Leaders) -> None:
    """Elected and deposed ten times while one leader stops, it starts no other."""
    role.elected(1)
    over = [fired(role.deposed())]
    for term in range(2, 12):
        role.elected(term)
        over.append(fired(role.deposed()))
    assert not any(over)
    slow.let_stop()
    assert over == [[None]] * 11
    assert slow.terms == [1]


def test_stop_fails(role: LeaderRole, slow: Leaders, logged_failures: LoggedFailures) -> None:
    """A leader that fails to stop is over all the same, and the next one can lead."""
    role.elected(1)
    over = fired(role.deposed())
    slow.let_stop(ZeroDivisionError())
    assert over == [None]
    assert len(logged_failures.flush(ZeroDivisionError)) == 1
    role.elected(2)
    assert leads(role) == "of-term-2"


def test_can_not_be_made(role: LeaderRole, leaders: Leaders, logged_failures: LoggedFailures) -> None:
    """If no leader can be made that is said, and nobody leads until the next election."""
    leaders.make_error = ZeroDivisionError()
    assert elect(role, 1) == ["unable in term 1"]
    assert leads(role) == ""
    assert fired(role.deposed()) == [None]
    assert elect(role, 2) == ["unable in term 2"]
    leaders.make_error = None
    role.elected(3)
    assert leads(role) == "of-term-3"
    assert len(logged_failures.flush(ZeroDivisionError)) == 2


def test_start_fails(role: LeaderRole, slow: Leaders, logged_failures: LoggedFailures) -> None:
    """A leader that failed to start does not lead; it is stopped before the next one starts."""
    slow.start_error = ZeroDivisionError()
    assert elect(role, 1) == ["unable in term 1"]
    assert leads(role) == ""
    slow.start_error = None
    begun = elect(role, 2)
    assert leads(role) == ""
    assert begun == []
    slow.let_stop()
    assert leads(role) == "of-term-2"
    assert begun == ["done"]
    assert len(logged_failures.flush(ZeroDivisionError)) == 1


def test_stopped_while_leading(role: LeaderRole, slow: Leaders) -> None:
    """The service is stopped when its leader has stopped."""
    role.elected(1)
    stopped = fired(role.stopService())
    assert leads(role) == ""
    assert stopped == []
    slow.let_stop()
    assert stopped == [None]
    assert fired(role.stopService()) == [None]


def test_stopped_while_following(role: LeaderRole) -> None:
    """Without a leader there is nothing to wait for."""
    assert fired(role.stopService()) == [None]


def test_stopped_while_restarting(role: LeaderRole, slow: Leaders) -> None:
    """Stopped before the next leader could start, it starts none."""
    role.elected(1)
    begun = elect(role, 2)
    stopped = fired(role.stopService())
    slow.let_stop()
    assert (begun, stopped) == (["done"], [None])
    assert slow.terms == [1]


def test_elected_after_the_stop(role: LeaderRole, slow: Leaders) -> None:
    """An election that comes after the service was stopped, or while it stops, leads to nothing."""
    role.elected(1)
    role.stopService()
    begun = elect(role, 2)
    slow.let_stop()
    assert begun + elect(role, 3) == ["unable in term 2", "unable in term 3"]
    assert leads(role) == ""
    assert slow.terms == [1]


def test_started_again(role: LeaderRole, leaders: Leaders) -> None:
    """A service that was stopped can be started, and lead, again."""
    role.elected(1)
    role.stopService()
    role.startService()
    role.elected(2)
    assert leads(role) == "of-term-2"


def test_batch_on_its_way(role: LeaderRole, leaders: Leaders) -> None:
    """A batch that was handed to a leader is answered by it, though it leads no longer."""
    role.elected(1)
    assert leaders.present is not None
    hold: Deferred[None] = Deferred()
    leaders.present.cluster.hold = hold
    answer = fired(role.submit({}))
    role.deposed()
    hold.callback(None)
    assert answer == [[]]
