"""Streams of events: nothing missed, nothing told twice, whatever breaks."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.defer import Deferred

from flynnhost.client import errors
from flynnhost.client.client import Client
from flynnhost.model import HostEvent, HostEventKind
from tests.support.served_host import ServedHost, in_the_reactor, job
from tests.support.waiting import until


async def cut_off(served: ServedHost) -> None:
    """All connections break."""
    await until(served.reactor, lambda: len(served.streams), "a stream")
    for reader in served.reactor.getReaders():
        if "HTTPChannel" in repr(reader):
            reader.abortConnection()


@in_the_reactor
async def test_snapshot_and_changes(client: Client, served: ServedHost) -> None:
    served.add(job("j1"))
    events = client.job_events(snapshot=True)
    first = await anext(events)
    assert first.job is not None
    assert (first.event, first.job_id, first.job.status) == ("start", "j1", 1)
    assert not events.current
    waiting = Deferred.fromCoroutine(anext(events))
    await until(served.reactor, lambda: events.current, "the end of the snapshot")
    served.agent.end("j1", 3)
    stopped = await waiting
    assert stopped.job is not None
    assert (stopped.event, stopped.job.exit_status) == ("stop", 3)
    events.close()


@in_the_reactor
async def test_connection_that_breaks(client: Client, served: ServedHost) -> None:
    """What happened meanwhile comes after it was made again."""
    served.add(job("j1"))
    events = client.job_events("j1", snapshot=True)
    await anext(events)
    waiting = Deferred.fromCoroutine(anext(events))
    await until(served.reactor, lambda: events.current, "the end of the snapshot")
    await cut_off(served)
    served.agent.end("j1", 0)
    assert (await waiting).event == "stop"
    events.close()


@in_the_reactor
async def test_too_long_a_gap(client: Client, served: ServedHost) -> None:
    """It is told when events are not kept any more."""
    events = client.host_events(snapshot=True)
    await anext(events)
    waiting = Deferred.fromCoroutine(anext(events))
    await until(served.reactor, lambda: events.current, "the end of the snapshot")
    await cut_off(served)
    for _ in range(20_000):
        served.cluster.events.publish("h1", HostEvent(HostEventKind.UP, "h1"))
    with pytest.raises(errors.Resync):
        await waiting


@in_the_reactor
async def test_what_can_not_be_gone_on_with(client: Client, served: ServedHost) -> None:
    """A stream of changes only, of which none has come, has no place to go on from."""
    events = client.host_events()
    waiting = Deferred.fromCoroutine(anext(events))
    await cut_off(served)
    with pytest.raises(errors.BrokenOff):
        await waiting


@in_the_reactor
async def test_the_end(client: Client, served: ServedHost) -> None:
    """The host ends streams when it stops; whoever reads may end them too."""
    closed = client.host_events(snapshot=True)
    await anext(closed)
    waiting = Deferred.fromCoroutine(read_one(closed))
    closed.close()
    assert await waiting is None
    events = client.host_events(snapshot=True)
    seen: list[str] = []

    async def read() -> None:
        seen.extend([event.host_id async for event in events])

    reading = Deferred.fromCoroutine(read())
    await until(served.reactor, lambda: events.current, "the end of the snapshot")
    await served.streams.close_all()
    await reading
    assert seen == ["h1"]


async def read_one(events: Any) -> Any:
    return await anext(events, None)


@in_the_reactor
async def test_refused(client: Client, served: ServedHost) -> None:
    with pytest.raises(errors.NotFound):
        await anext(client.job_events("none", snapshot=True))


@in_the_reactor
async def test_nobody_there(client: Client, served: ServedHost) -> None:
    """The first connection is not tried again and again."""
    nowhere = Client(served.reactor, served.address.__class__("127.0.0.1", 9))
    with pytest.raises(errors.HostUnreachable):
        await anext(nowhere.job_events(snapshot=True))
    await nowhere.close()
