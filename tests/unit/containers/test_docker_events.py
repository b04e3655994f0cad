"""The watch of events: what it asks, what it tells, and how it comes back."""

from __future__ import annotations

import json
import queue
from collections.abc import Iterator
from typing import Any

import pytest

from flynnhost.containers.address import EngineAddress
from flynnhost.containers.events import Backoff, EventsWatch
from flynnhost.containers.session import EngineSessions
from flynnhost.testing.container_rig import EventRecorder
from tests.conftest import LoggedFailures
from tests.support.fake_engine import Answer, FakeEngine, refusal
from tests.support.threads_reactor import ThreadsReactor

LABELS = {"io.flynn.host": "here"}


class Stream:
    """Events to be sent one after the other; None ends the stream."""

    def __init__(self) -> None:
        self._pieces: queue.Queue[bytes | None] = queue.Queue()

    def send(self, action: str, number: int = 1, **attributes: str) -> None:
        actor = {"ID": f"c{number}", "Attributes": {**LABELS, "image": "busybox", "name": "x", **attributes}}
        event = {"Type": "container", "Action": action, "Actor": actor, "timeNano": 7_000_000_000 + number}
        self._pieces.put(json.dumps(event).encode() + b"\n")

    def end(self) -> None:
        self._pieces.put(None)

    def __iter__(self) -> Iterator[bytes]:
        while (piece := self._pieces.get(timeout=10)) is not None:
            yield piece


@pytest.fixture
def reactor() -> ThreadsReactor:
    return ThreadsReactor()


@pytest.fixture
def stream(engine: FakeEngine) -> Iterator[Stream]:
    stream = Stream()
    engine.answers = lambda _request: Answer(pieces=stream)
    yield stream
    stream.end()


class Watching:
    def __init__(self, reactor: ThreadsReactor, engine: FakeEngine, listener: Any, **backoff: Any) -> None:
        sessions = EngineSessions(EngineAddress.parse(engine.url), timeout=5)
        self.waits: list[float] = []
        chance = Backoff(first=0.001, limit=backoff.pop("limit", 0.01), **backoff)
        self.watch = EventsWatch(reactor, sessions, LABELS, listener, chance, 2, lambda _watch: None)
        self.watch.start()


@pytest.fixture
def listener() -> EventRecorder:
    return EventRecorder()


@pytest.fixture
def watching(
    reactor: ThreadsReactor, engine: FakeEngine, stream: Stream, listener: EventRecorder
) -> Iterator[Watching]:
    watching = Watching(reactor, engine, listener)
    yield watching
    stopped = watching.watch.stop()
    stream.end()
    reactor.run_until(lambda: stopped.called)
    assert reactor.getDelayedCalls() == []


@pytest.mark.usefixtures("watching")
class TestFollowing:
    def test_request(self, reactor: ThreadsReactor, engine: FakeEngine, listener: EventRecorder) -> None:
        """The engine is asked for containers with the labels, from the moment before."""
        reactor.run_until(lambda: listener.heard)
        request = engine.requests[0]
        assert request.path == "/events"
        assert json.loads(request.query["filters"]) == {
            "type": ["container"],
            "label": ["io.flynn.host=here"],
        }
        assert int(request.query["since"]) > 1_700_000_000

    def test_events(self, reactor: ThreadsReactor, stream: Stream, listener: EventRecorder) -> None:
        """Events are told in order, with the labels only, without what happens within containers."""
        for action in ("create", "exec_create: sh", "start", "exec_die", "die"):
            stream.send(action, exitCode="0")
        reactor.run_until(lambda: "die" in listener.actions("c1"))
        assert listener.heard == [("connected",), ("c1", "create"), ("c1", "start"), ("c1", "die")]
        assert all(labels == LABELS for labels in listener.labels)

    def test_resume(
        self, reactor: ThreadsReactor, engine: FakeEngine, stream: Stream, listener: EventRecorder
    ) -> None:
        """After a loss the engine is asked for what came since the last event."""
        stream.send("start", 5)
        stream.end()
        reactor.run_until(lambda: listener.engine == ["connected", "lost", "connected"])
        assert engine.requests[1].query["since"] == "7.000000005"

    def test_engine_restarts(
        self, reactor: ThreadsReactor, engine: FakeEngine, stream: Stream, listener: EventRecorder
    ) -> None:
        """While the engine is away this is told once, however often it is tried."""
        reactor.run_until(lambda: listener.heard)
        engine.stop()
        stream.end()
        reactor.run_until(lambda: "lost" in listener.engine)
        engine.start()
        reactor.run_until(lambda: len(listener.engine) > 2)
        assert listener.engine == ["connected", "lost", "connected"]

    def test_flood(self, reactor: ThreadsReactor, stream: Stream, listener: EventRecorder) -> None:
        """However many events come, only so many wait to be told, and none is lost."""
        for number in range(5000):
            stream.send("start", number)
        reactor.run_until(lambda: len(listener.heard) == 5001)
        assert [each[0] for each in listener.heard[1:]] == [f"c{number}" for number in range(5000)]


def test_refused(reactor: ThreadsReactor, engine: FakeEngine, listener: EventRecorder) -> None:
    """An engine that refuses is told as lost, and asked again."""
    engine.answers = lambda _request: refusal(500, "not now")
    watching = Watching(reactor, engine, listener)
    reactor.run_until(lambda: listener.heard)
    stream = Stream()
    engine.answers = lambda _request: Answer(pieces=stream)
    reactor.run_until(lambda: listener.engine == ["lost", "connected"])
    stream.end()
    stopped = watching.watch.stop()
    reactor.run_until(lambda: stopped.called)


def test_garbage(reactor: ThreadsReactor, engine: FakeEngine, listener: EventRecorder) -> None:
    """A stream that makes no sense is a loss like any other."""
    engine.answers = lambda _request: Answer(pieces=[b"{nonsense\n"])
    watching = Watching(reactor, engine, listener)
    reactor.run_until(lambda: listener.engine[:3] == ["connected", "lost", "connected"])
    stopped = watching.watch.stop()
    reactor.run_until(lambda: stopped.called)


def test_stop_while_waiting(reactor: ThreadsReactor, engine: FakeEngine, listener: EventRecorder) -> None:
    """A watch that waits to try again is stopped at once."""
    engine.stop()
    watching = Watching(reactor, engine, listener, limit=60, factor=1e9)
    reactor.run_until(lambda: listener.heard)
    stopped = watching.watch.stop()
    reactor.run_until(lambda: stopped.called, within=2)
    assert watching.watch.stop().called
    engine.start()


def test_listener_fails(reactor: ThreadsReactor, engine: FakeEngine, logged_failures: LoggedFailures) -> None:
    """A listener that raises goes on hearing."""

    class Broken(EventRecorder):
        def engine_connected(self) -> None:
            super().engine_connected()
            raise RuntimeError("broken")

    listener, stream = Broken(), Stream()
    engine.answers = lambda _request: Answer(pieces=stream)
    watching = Watching(reactor, engine, listener)
    stream.send("start")
    reactor.run_until(lambda: listener.actions("c1"))
    assert len(logged_failures.flush(RuntimeError)) == 1
    stream.end()
    stopped = watching.watch.stop()
    reactor.run_until(lambda: stopped.called)


def test_backoff() -> None:
    """Waits grow up to a limit, and chance makes each shorter by up to a half."""
    longest = Backoff(first=1, factor=2, limit=10, chance=lambda: 1.0)
    assert [longest.delay(attempt) for attempt in (0, 1, 2, 3, 4, 10_000)] == [1, 2, 4, 8, 10, 10]
    shortest = Backoff(first=1, factor=2, limit=10, chance=lambda: 0.0)
    assert [shortest.delay(attempt) for attempt in (0, 1, 10_000)] == [0.5, 1, 5]
