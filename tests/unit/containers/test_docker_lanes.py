"""Threads for calls that block never hold anyone up who does not want to be."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest
from twisted.internet.defer import CancelledError, Deferred

from flynnhost.containers.lanes import Lane
from flynnhost.errors import EngineUnavailable
from tests.support.threads_reactor import ThreadsReactor
from tests.support.waiting import wait_until


class Gate:
    """A function that blocks until the gate is opened, and counts who has come."""

    def __init__(self) -> None:
        self.open = threading.Event()
        self.came: list[object] = []

    def pass_through(self, who: object = None) -> object:
        self.came.append(who)
        self.open.wait(10)
        return who


@pytest.fixture
def gate() -> Iterator[Gate]:
    gate = Gate()
    yield gate
    gate.open.set()


@pytest.fixture
def reactor() -> ThreadsReactor:
    return ThreadsReactor()


@pytest.fixture
def lane(reactor: ThreadsReactor) -> Iterator[Lane]:
    lane = Lane(reactor, "test", threads=2, waiting=3, deadline=10)
    yield lane
    lane.close()
    lane.join(1)


def outcome(deferred: Deferred[Any]) -> list[Any]:
    """Where the result or the error will be."""
    results: list[Any] = []
    deferred.addBoth(lambda result: results.append(getattr(result, "value", result)))
    return results


def test_result(reactor: ThreadsReactor, lane: Lane) -> None:
    """What the function returns comes back, from a thread that is not this one."""
    result = outcome(lane.run(lambda given: (given, threading.current_thread().name), 3))
    reactor.run_until(lambda: result)
    value, name = result[0]
    assert value == 3
    assert "docker-test" in name
    assert reactor.getDelayedCalls() == []


def test_error(reactor: ThreadsReactor, lane: Lane) -> None:
    """What the function raises comes back too."""
    result = outcome(lane.run(lambda: [].pop()))
    reactor.run_until(lambda: result)
    assert isinstance(result[0], IndexError)


def test_number(reactor: ThreadsReactor, lane: Lane, gate: Gate) -> None:
    """So many run at once as there are threads, the others after them."""
    results = [outcome(lane.run(gate.pass_through, number)) for number in range(5)]
    wait_until(lambda: len(gate.came) == 2, "both threads")
    gate.open.set()
    reactor.run_until(lambda: all(results))
    assert results == [[0], [1], [2], [3], [4]]


def test_order(reactor: ThreadsReactor, gate: Gate) -> None:
    """Who came first is served first."""
    lane = Lane(reactor, "test", threads=1, waiting=10, deadline=10)
    results = [outcome(lane.run(gate.pass_through, number)) for number in range(10)]
    gate.open.set()
    reactor.run_until(lambda: all(results))
    assert gate.came == list(range(10))
    lane.close()
    lane.join(1)


def test_overfull(reactor: ThreadsReactor, lane: Lane, gate: Gate) -> None:
    """When too many wait the next is refused at once; later there is room again."""
    results = [outcome(lane.run(gate.pass_through)) for _ in range(5)]
    refused = outcome(lane.run(gate.pass_through))
    assert isinstance(refused[0], EngineUnavailable)
    gate.open.set()
    reactor.run_until(lambda: all(results))
    again = outcome(lane.run(gate.pass_through))
    reactor.run_until(lambda: again)
    assert again == [None]


def test_deadline(reactor: ThreadsReactor, lane: Lane, gate: Gate) -> None:
    """Nobody waits longer than the deadline, in the queue or not; a late result is dropped."""
    results = [outcome(lane.run(gate.pass_through, number)) for number in range(3)]
    wait_until(lambda: len(gate.came) == 2, "both threads")
    reactor.advance(9.9)
    assert results == [[], [], []]
    reactor.advance(0.1)
    assert all(isinstance(result[0], EngineUnavailable) for result in results)
    gate.open.set()
    last = outcome(lane.run(gate.pass_through, "last"))
    reactor.run_until(lambda: last)
    assert sorted(map(str, gate.came)) == ["0", "1", "last"], "what nobody waits for was run"


def test_cancel(reactor: ThreadsReactor, lane: Lane, gate: Gate) -> None:
    """Who does not want to wait is let go; the work goes on and keeps its thread."""
    call = lane.run(gate.pass_through, "cancelled")
    result = outcome(call)
    wait_until(lambda: gate.came, "the thread")
    call.cancel()
    assert isinstance(result[0], CancelledError)
    gate.open.set()
    other = outcome(lane.run(gate.pass_through))
    reactor.run_until(lambda: other)
    assert len(result) == 1


def test_close(reactor: ThreadsReactor, lane: Lane, gate: Gate) -> None:
    """The end lets everyone go at once, and waits for threads only so long."""
    results = [outcome(lane.run(gate.pass_through, number)) for number in range(3)]
    wait_until(lambda: len(gate.came) == 2, "both threads")
    lane.close()
    assert all(isinstance(result[0], EngineUnavailable) for result in results)
    assert isinstance(outcome(lane.run(gate.pass_through))[0], EngineUnavailable)
    joined = outcome(lane.join(2))
    assert joined == []
    reactor.advance(2)
    assert joined == [None]
    gate.open.set()
    wait_until(lambda: not threads(), "the threads to end")
    assert len(gate.came) == 2
    assert reactor.getDelayedCalls() == []


def test_join(reactor: ThreadsReactor, lane: Lane) -> None:
    """Threads that have nothing to do end at once; a second join does no harm."""
    result = outcome(lane.run(lambda: 1))
    reactor.run_until(lambda: result)
    lane.close()
    joined = outcome(lane.join(2))
    reactor.run_until(lambda: joined)
    assert threads() == []
    assert outcome(lane.join(2)) == [None]


def test_daemons(lane: Lane, gate: Gate) -> None:
    """No thread holds up the end of the process, and none is there before it is needed."""
    assert threads() == []
    outcome(lane.run(gate.pass_through))
    assert [thread.daemon for thread in threads()] == [True]


def threads() -> list[threading.Thread]:
    """The threads of the lane."""
    return [thread for thread in threading.enumerate() if "docker-test" in thread.name]
