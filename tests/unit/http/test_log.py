"""A job's output over HTTP."""

from __future__ import annotations

import pytest
from twisted.internet.task import Clock

from flynnhost.errors import EngineUnavailable, OutputGone
from flynnhost.http.open_streams import OpenStreams
from flynnhost.http.site import APISite
from flynnhost.interfaces import LogQuery
from flynnhost.model import Artifact, Job
from flynnhost.testing.agent import FakeAgent, OutputRequest
from flynnhost.testing.http_connection import MemoryConnection, dechunk, unchunked
from tests.support.http_errors import assert_error


@pytest.fixture(autouse=True)
def job(agent: FakeAgent) -> None:
    agent.accept([Job("j1", Artifact("busybox"))], 0)


def asked(client: MemoryConnection, agent: FakeAgent, query: str = "", method: str = "GET") -> OutputRequest:
    client.request(method, f"/host/jobs/j1/log{query}")
    return agent.outputs[-1]


def streaming(client: MemoryConnection, agent: FakeAgent) -> OutputRequest:
    output = asked(client, agent, "?follow=true")
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
