"""Services that are started and stopped in an order."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.application.service import Service
from twisted.internet import defer
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from flynnhost.services import STOP_WITHIN, OrderedServices, StartedAfter
from tests.conftest import LoggedFailures


class Child(Service):
    """Writes down what happens to it, and stops when it is told to."""

    def __init__(self, name: str, diary: list[str]) -> None:
        self.setName(name)
        self.diary = diary
        self.stop: Deferred[None] | None = None
        self.error: Exception | None = None

    def startService(self) -> None:
        super().startService()
        self.diary.append(f"start {self.name}")

    def stopService(self) -> Any:
        super().stopService()
        self.diary.append(f"stop {self.name}")
        if self.error is not None:
            raise self.error
        return self.stop


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def diary() -> list[str]:
    return []


@pytest.fixture
def services(clock: Clock) -> OrderedServices:
    return OrderedServices(clock)


@pytest.fixture
def children(services: OrderedServices, diary: list[str]) -> list[Child]:
    children = [Child(name, diary) for name in "abc"]
    for child in children:
        child.setServiceParent(services)
    return children


def stop(services: OrderedServices) -> list[None]:
    """Begin to stop; what the Deferred fires with."""
    stopped: list[None] = []
    services.stopService().addCallback(stopped.append)
    return stopped


def test_in_order(services: OrderedServices, children: list[Child], diary: list[str]) -> None:
    """Children start in the order they came, and stop the other way round, one after the other."""
    services.startService()
    children[2].stop = Deferred()
    children[1].stop = Deferred()
    stopped = stop(services)
    assert diary == ["start a", "start b", "start c", "stop c"]
    children[2].stop.callback(None)
    assert diary[4:] == ["stop b"]
    assert stopped == []
    children[1].stop.callback(None)
    assert diary[5:] == ["stop a"]
    assert stopped == [None]
    assert not services.running
    assert not any(child.running for child in children)


def test_child_that_fails_to_stop(
    services: OrderedServices, children: list[Child], diary: list[str], logged_failures: LoggedFailures
) -> None:
    """A child that fails to stop is logged and keeps none of the others from being stopped."""
    services.startService()
    children[2].error = ZeroDivisionError()
    children[1].stop = Deferred()
    stopped = stop(services)
    children[1].stop.errback(ValueError())
    assert diary[3:] == ["stop c", "stop b", "stop a"]
    assert stopped == [None]
    assert len(logged_failures.flush(ZeroDivisionError, ValueError)) == 2


def test_child_that_does_not_stop(
    services: OrderedServices,
    children: list[Child],
    diary: list[str],
    clock: Clock,
    logged_failures: LoggedFailures,
) -> None:
    """A child that does not come to an end keeps the others waiting for so long, and no longer."""
    services.startService()
    children[2].stop = Deferred()
    stopped = stop(services)
    clock.advance(STOP_WITHIN - 0.1)
    assert diary[3:] == ["stop c"]
    clock.advance(0.1)
    assert diary[3:] == ["stop c", "stop b", "stop a"]
    assert stopped == [None]
    assert len(logged_failures.flush(defer.TimeoutError)) == 1
    assert clock.getDelayedCalls() == []


def test_stopped_twice(services: OrderedServices, children: list[Child], diary: list[str]) -> None:
    """Who asks again while it stops is told when it has; the children are stopped once."""
    services.startService()
    children[1].stop = Deferred()
    first, second = stop(services), stop(services)
    children[1].stop.callback(None)
    assert first == second == [None]
    assert diary[3:] == ["stop c", "stop b", "stop a"]


def test_started_again(services: OrderedServices, children: list[Child], diary: list[str]) -> None:
    """What has stopped can be started and stopped again."""
    for _ in range(2):
        services.startService()
        assert stop(services) == [None]
    assert diary == ["start a", "start b", "start c", "stop c", "stop b", "stop a"] * 2


def test_no_children(services: OrderedServices) -> None:
    """Without children there is nothing to wait for."""
    services.startService()
    assert stop(services) == [None]


# --- a service that waits for its start ----------------------------------------


@pytest.fixture
def ready() -> Deferred[None]:
    return Deferred()


@pytest.fixture
def waiting(ready: Deferred[None], diary: list[str]) -> StartedAfter:
    service = StartedAfter(lambda: ready, Child("a", diary))
    service.startService()
    return service


def test_started_when_ready(waiting: StartedAfter, ready: Deferred[None], diary: list[str]) -> None:
    """It is started when it can be, and its stop is waited for."""
    assert diary == []
    ready.callback(None)
    assert diary == ["start a"]
    stopped: list[None] = []
    child = waiting.service
    assert isinstance(child, Child)
    child.stop = Deferred()
    waiting.stopService().addCallback(stopped.append)
    assert diary == ["start a", "stop a"]
    assert not stopped
    child.stop.callback(None)
    assert stopped


def test_stopped_before_it_was_ready(waiting: StartedAfter, ready: Deferred[None], diary: list[str]) -> None:
    """What was not started is not started any more."""
    stopped: list[None] = []
    waiting.stopService().addCallback(stopped.append)
    ready.callback(None)
    assert stopped
    assert diary == []
