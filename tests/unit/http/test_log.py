"""A job's output over HTTP."""

from __future__ import annotations

import attrs
import pytest
from twisted.internet.task import Clock

from flynnhost.errors import EngineUnavailable, OutputGone, PositionGone
from flynnhost.http.open_streams import OpenStreams
from flynnhost.http.site import APISite
from flynnhost.interfaces import LogEntry, LogQuery
from flynnhost.log_position import LogPosition
from flynnhost.model import Artifact, Job
from flynnhost.testing.agent import FakeAgent, OutputRequest
from flynnhost.testing.http_connection import MemoryConnection, dechunk, unchunked
from tests.support.http_errors import assert_error

POSITION = LogPosition(b"2026-11-24T01:00:00.123456789Z", 1, 0, 0xABCD, False)

FRAMES = "application/vnd.docker.multiplexed-stream"


@pytest.fixture(autouse=True)
def job(agent: FakeAgent) -> None:
    agent.accept([Job("j1", Artifact("busybox"))], 0)


def asked(
    client: MemoryConnection, agent: FakeAgent, query: str = "", method: str = "GET", accept: str = "*/*"
) -> OutputRequest:
    client.request(method, f"/host/jobs/j1/log{query}", headers={"Accept": accept})
    return agent.outputs[-1]


def streaming(client: MemoryConnection, agent: FakeAgent, accept: str = "*/*") -> OutputRequest:
    output = asked(client, agent, "?follow=true", accept=accept)
    output.agreed.callback(output.stream)
    head = client.received()
    assert head.startswith(b"HTTP/1.1 200 OK\r\n")
    assert head.endswith(b"\r\n\r\n")
    return output


def test_output(client: MemoryConnection, agent: FakeAgent, streams: OpenStreams) -> None:
    """Output comes as it is, whichever stream it was written to, and ends properly."""
    output = asked(client, agent)
    assert client.received() == b""
    output.agreed.callback(output.stream)
    output.receiver.output_received(1, b"out\r\n\xff\x00")
    output.receiver.output_received(2, b"err")
    output.receiver.output_ended(None)
    answer = client.answer()
    assert answer.status == 200
    assert answer.headers["content-type"] == "text/plain"
    assert answer.body == b"out\r\n\xff\x00err"
    assert output.stream.calls == []
    assert len(streams) == 0
    client.request("GET", "/health")
    assert client.answer().status == 200


def test_headers_come_before_output(client: MemoryConnection, agent: FakeAgent) -> None:
    """Who follows a silent job knows at once that it is being followed."""
    streaming(client, agent)


def test_no_output(client: MemoryConnection, agent: FakeAgent) -> None:
    """No output is an empty answer, also if that is known before anything else."""
    output = asked(client, agent)
    output.receiver.output_ended(None)
    assert client.answer().body == b""
    output.agreed.callback(output.stream)
    assert output.stream.calls == ["stop"]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("", LogQuery()),
        ("?follow", LogQuery(follow=True)),
        ("?follow=true&tail=0", LogQuery(follow=True, tail=0)),
        ("?follow=1&tail=100", LogQuery(follow=True, tail=100)),
        ("?follow=false", LogQuery()),
        ("?stream=stdout", LogQuery(stderr=False)),
        ("?stream=stderr", LogQuery(stdout=False)),
        ("?since=0", LogQuery(since_ns=0)),
        ("?since=1795482000.5&tail=1", LogQuery(since_ns=1_795_482_000_500_000_000, tail=1)),
        ("?since=2026-11-24T01:00:00.123456789Z", LogQuery(since_ns=1_795_482_000_123_456_789)),
        ("?since=2026-11-24T02:00:00%2B01:00", LogQuery(since_ns=1_795_482_000_000_000_000)),
        ("?since=2026-11-24T02:00:00+01:00", LogQuery(since_ns=1_795_482_000_000_000_000)),
        ("?since=1969-12-31T23:59:59Z", LogQuery(since_ns=0)),
        (f"?since={POSITION}", LogQuery(after=POSITION)),
    ],
)
def test_query(client: MemoryConnection, agent: FakeAgent, query: str, expected: LogQuery) -> None:
    """What is wanted is passed on."""
    output = asked(client, agent, query)
    assert (output.job_id, output.query) == ("j1", expected)


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("follow=maybe", "follow"),
        ("tail=-1", "tail"),
        ("tail=all", "tail"),
        ("tail=", "tail"),
        ("tail=1.0", "tail"),
        ("tail=%D9%A3", "tail"),
        ("tail=" + "9" * 5000, "tail"),
        ("tail=2147483648", "tail"),
        ("tail=1&tail=2", "tail"),
        ("stream=stdin", "stream"),
        ("stream=", "stream"),
        ("stream=%ff", "stream"),
        ("since=yesterday", "since"),
        ("since=-1", "since"),
        ("since=1&since=2", "since"),
        ("since=2026-11-24T01:00:00", "since"),
        ("since=2026-13-24T01:00:00Z", "since"),
        ("since=2026-11-24T01:00:00%2B99:00", "since"),
        ("since=20261124010000000000000-3-0-00000000", "since"),
        ("since=3f2a-17", "since"),
        ("since=" + "9" * 5000, "since"),
        ("since=%ff", "since"),
    ],
)
def test_bad_query(client: MemoryConnection, agent: FakeAgent, query: str, field: str) -> None:
    """What is not proper is refused by name."""
    client.request("GET", f"/host/jobs/j1/log?{query}")
    assert assert_error(client.answer(), 400, "validation_error")["detail"] == {"field": field}
    assert agent.outputs == []


def test_gone(client: MemoryConnection, agent: FakeAgent, streams: OpenStreams) -> None:
    """Output that is not there is told as gone."""
    asked(client, agent).agreed.errback(OutputGone("j1", "its container was removed"))
    assert_error(client.answer(), 410, "gone")
    assert len(streams) == 0


def test_engine_gone(client: MemoryConnection, agent: FakeAgent) -> None:
    """Output that can't be had now may be had later."""
    asked(client, agent).agreed.errback(EngineUnavailable("gone"))
    assert_error(client.answer(), 503, "not_ready", retry=True)


def test_not_acceptable(client: MemoryConnection, agent: FakeAgent) -> None:
    """Output is no JSON."""
    client.request("GET", "/host/jobs/j1/log", headers={"Accept": "application/json"})
    assert_error(client.answer(), 406, "not_acceptable")


def test_breaks_off(client: MemoryConnection, agent: FakeAgent, clock: Clock, streams: OpenStreams) -> None:
    """Output that breaks off does not look as if it had ended."""
    output = streaming(client, agent)
    output.receiver.output_received(1, b"half a li")
    output.receiver.output_ended(EngineUnavailable("gone"))
    assert client.aborted
    clock.advance(0)
    assert dechunk(client.received()) == (b"half a li", b"", False)
    assert len(streams) == 0


def test_slow_reader(clock: Clock, site: APISite, agent: FakeAgent) -> None:
    """A reader that is slow holds back the engine, and nobody else."""
    client = MemoryConnection(clock, site, window=1000)
    output = asked(client, agent)
    output.agreed.callback(output.stream)
    output.receiver.output_received(1, b"x" * 500)
    assert output.stream.calls == []
    output.receiver.output_received(1, b"x" * 500)
    assert output.stream.calls == ["pause"]
    client.received()
    assert output.stream.calls == ["pause", "resume"]


def test_client_gone(client: MemoryConnection, agent: FakeAgent, streams: OpenStreams, clock: Clock) -> None:
    """When the client is gone, the transfer is stopped, once."""
    output = streaming(client, agent)
    client.lose()
    assert output.stream.calls == ["stop"]
    assert len(streams) == 0
    assert clock.getDelayedCalls() == []
    output.receiver.output_received(1, b"late")
    output.receiver.output_ended(EngineUnavailable("late"))


def test_client_gone_early(client: MemoryConnection, agent: FakeAgent, streams: OpenStreams) -> None:
    """A transfer that begins when nobody waits for it any more is stopped at once."""
    output = asked(client, agent)
    client.lose()
    assert len(streams) == 0
    output.agreed.callback(output.stream)
    assert output.stream.calls == ["stop"]


def test_client_gone_and_no_output(client: MemoryConnection, agent: FakeAgent) -> None:
    """That there is no output does not matter to one who is gone."""
    output = asked(client, agent)
    client.lose()
    output.agreed.errback(OutputGone("j1", "it never started"))


def test_host_stops(client: MemoryConnection, agent: FakeAgent, streams: OpenStreams, clock: Clock) -> None:
    """When the host stops, followers see that there may be more."""
    output = streaming(client, agent)
    over: list[None] = []
    streams.close_all().addCallback(over.append)
    assert client.aborted
    clock.advance(0)
    assert over == [None]
    assert output.stream.calls == ["stop"]


def test_host_is_stopping(client: MemoryConnection, agent: FakeAgent, streams: OpenStreams) -> None:
    """No transfer begins any more then."""
    streams.close_all()
    client.request("GET", "/host/jobs/j1/log")
    assert_error(client.answer(), 503, "not_ready", retry=True)
    assert agent.outputs == []


def test_head(client: MemoryConnection, agent: FakeAgent) -> None:
    """HEAD has the headers only."""
    output = asked(client, agent, method="HEAD")
    output.agreed.callback(output.stream)
    assert client.received().endswith(b"\r\n\r\n")
    assert output.stream.calls == ["stop"]
    client.request("GET", "/health")
    assert client.answer().status == 200


def test_last_chunk(client: MemoryConnection, agent: FakeAgent) -> None:
    """The end of output is the end of the answer."""
    output = streaming(client, agent)
    output.receiver.output_received(1, b"all")
    output.receiver.output_ended(None)
    assert unchunked(client.received()) == b"all"
    assert not client.aborted


def test_frames(client: MemoryConnection, agent: FakeAgent) -> None:
    """In frames each piece has its stream and its length before it."""
    output = asked(client, agent, accept=FRAMES)
    output.agreed.callback(output.stream)
    output.receiver.output_received(1, b"out\n")
    output.receiver.output_received(2, b"e" * 300)
    output.receiver.output_ended(None)
    answer = client.answer()
    assert answer.headers["content-type"] == FRAMES
    assert answer.body == b"\1\0\0\0\0\0\0\4out\n" + b"\2\0\0\0\0\0\1\x2c" + b"e" * 300


def event(data: str, position: LogPosition = POSITION) -> bytes:
    return f"id: {position}\ndata: {data}\n\n".encode()


def test_events(client: MemoryConnection, agent: FakeAgent) -> None:
    """Each line is an event with its ID, stream and time; bytes that are no text are in base64."""
    output = asked(client, agent, accept="text/event-stream")
    output.agreed.callback(output.stream)
    when = '"time":"2026-11-24T01:00:00.123456789Z"'
    second = attrs.evolve(POSITION, stream=2, index=1, partial=True)
    output.receiver.entries_received(
        [LogEntry(POSITION, b"out \xc3\xbc\r\n"), LogEntry(second, b"half"), LogEntry(POSITION, b"\n")]
    )
    output.receiver.entries_received([LogEntry(POSITION, b"\xff\n")])
    output.receiver.output_ended(None)
    answer = client.answer()
    assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert answer.body == (
        event(f'{{"stream":"stdout",{when},"data":"out \u00fc\\r"}}')
        + event(f'{{"stream":"stderr",{when},"data":"half","partial":true}}', second)
        + event(f'{{"stream":"stdout",{when},"data":""}}')
        + event(f'{{"stream":"stdout",{when},"base64":"/w=="}}')
    )
    assert LogPosition.parse(str(second), "since") == second


def test_last_event_id(client: MemoryConnection, agent: FakeAgent) -> None:
    """The header of a client that connects again says where to continue; the query overrules it."""
    headers = {"Last-Event-ID": str(POSITION)}
    client.request("GET", "/host/jobs/j1/log", headers=headers)
    assert agent.outputs[-1].query == LogQuery(after=POSITION)
    agent.outputs[-1].agreed.errback(OutputGone("j1", str(PositionGone())))
    assert_error(client.answer(), 410, "gone")
    client.request("GET", "/host/jobs/j1/log?since=7", headers=headers)
    assert agent.outputs[-1].query == LogQuery(since_ns=7_000_000_000)


def test_bad_last_event_id(client: MemoryConnection, agent: FakeAgent) -> None:
    """What was never an ID is refused."""
    client.request("GET", "/host/jobs/j1/log", headers={"Last-Event-ID": "7"})
    assert assert_error(client.answer(), 400, "validation_error")["detail"] == {"field": "Last-Event-ID"}
    assert agent.outputs == []


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (PositionGone(), b"gone"),
        (EngineUnavailable("no answer"), str(EngineUnavailable("no answer")).encode()),
    ],
)
def test_events_break_off(
    client: MemoryConnection, agent: FakeAgent, clock: Clock, error: Exception, text: bytes
) -> None:
    """Events that can't go on end with an error."""
    output = streaming(client, agent, "text/event-stream")
    output.receiver.output_ended(error)
    assert unchunked(client.received()) == b"event: error\ndata: " + text + b"\n\n"
    client.lose()
    assert clock.getDelayedCalls() == []


def test_events_of_a_silent_job(client: MemoryConnection, agent: FakeAgent, clock: Clock) -> None:
    """While nothing is written there is a sign of life, to the byte as Flynn's clients take it."""
    output = streaming(client, agent, "text/event-stream")
    clock.advance(29)
    output.receiver.entries_received([LogEntry(POSITION, b"x\n")])
    client.received()
    clock.advance(29)
    assert client.received() == b""
    clock.advance(1)
    assert dechunk(client.received()) == (b":\n", b"", False)
    client.lose()
    assert output.stream.calls == ["stop"]
    assert clock.getDelayedCalls() == []


def test_events_when_the_host_stops(
    client: MemoryConnection, agent: FakeAgent, streams: OpenStreams, clock: Clock
) -> None:
    """Who follows events hears that there may be more."""
    output = streaming(client, agent, "text/event-stream")
    streams.close_all()
    assert unchunked(client.received()) == b"event: error\ndata: the host is stopping\n\n"
    assert output.stream.calls == ["stop"]
    client.lose()
    assert clock.getDelayedCalls() == []


def test_slow_reader_of_events(clock: Clock, site: APISite, agent: FakeAgent) -> None:
    """A reader who takes nothing for now holds the job's output back."""
    client = MemoryConnection(clock, site, window=1000)
    output = asked(client, agent, accept="text/event-stream")
    output.agreed.callback(output.stream)
    output.receiver.entries_received([LogEntry(POSITION, b"x" * 2000)])
    assert output.stream.calls == ["pause"]
    assert len(client.received()) > 2000
    assert output.stream.calls == ["pause", "resume"]
