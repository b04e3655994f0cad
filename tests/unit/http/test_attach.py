"""Attaching over HTTP, to the byte."""

from __future__ import annotations

import json
from typing import Any

import pytest
from twisted.internet.task import Clock

from flynnhost.errors import TooManyRequests
from flynnhost.http.attach_stream import TAKEN_WITHIN
from flynnhost.http.open_streams import OpenStreams
from flynnhost.http.outflow import CLOSE_WITHIN
from flynnhost.http.site import APISite
from flynnhost.interfaces import AttachQuery, ExecSpec
from flynnhost.model import Artifact, Job
from flynnhost.testing.agent import FakeAgent
from flynnhost.testing.attachment import FakeAttachment
from flynnhost.testing.http_connection import MemoryConnection
from tests.support.http_errors import assert_error

SWITCHING = b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: flynn-attach/0\r\n\r\n"
HEADERS = {"Connection": "upgrade", "Upgrade": "flynn-attach/0"}
ALL = {"job_id": "j1", "flags": 1 | 2 | 4 | 16}


@pytest.fixture(autouse=True)
def job(agent: FakeAgent) -> None:
    agent.accept([Job("j1", Artifact("busybox"))], 0)
    agent.run("j1")


def encoded(body: Any, path: str = "/attach") -> bytes:
    """A whole request."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return (
        b"POST %b HTTP/1.1\r\nHost: h\r\nConnection: upgrade\r\nUpgrade: flynn-attach/0\r\n"
        b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n%b"
        % (path.encode(), len(content), content)
    )


def attach(client: MemoryConnection, agent: FakeAgent, body: Any = None) -> FakeAttachment:
    """Attach, and take the head of the answer."""
    client.send(encoded(body or ALL))
    assert client.received() == SWITCHING
    return agent.attachments[-1]


def test_whole_conversation(client: MemoryConnection, agent: FakeAgent, streams: OpenStreams) -> None:
    """Each call is its frame, and the exit status is the last."""
    attachment = attach(client, agent)
    assert attachment.query == AttachQuery("j1", stdin=True, stdout=True, stderr=True, stream=True)
    attachment.client.waiting()
    assert client.received() == b"\x01"
    attachment.client.attached()
    assert client.received() == b"\x00"
    attachment.client.output_received(1, b"out")
    attachment.client.output_received(2, b"err")
    assert client.received() == b"\x03\x01\x00\x00\x00\x03out\x03\x02\x00\x00\x00\x03err"
    client.send(b"\x03\x00\x00\x00\x00\x02hi\x04\x00\x00\x00\x0f\x06\x00\x18\x00\x50\x03\x00\x00\x00\x00\x00")
    assert attachment.typed == b"hi"
    assert attachment.calls == [("signal", 15), ("resize", 24, 80), ("end_input",)]
    attachment.client.stream_ended(1)
    assert client.received() == b"\x03\x01\x00\x00\x00\x00"
    assert len(streams) == 1
    attachment.client.exited(7)
    assert client.received() == b"\x05\x00\x00\x00\x07"
    assert client.closed
    client.lose()
    assert len(streams) == 0
    assert attachment.calls[-1] == ("detach",)


@pytest.mark.parametrize(
    ("status", "frame"), [(0, b"\x05\0\0\0\0"), (-1, b"\x05\xff\xff\xff\xff"), (137, b"\x05\0\0\0\x89")]
)
def test_exit_status(client: MemoryConnection, agent: FakeAgent, status: int, frame: bytes) -> None:
    """An exit status is an unsigned number of 32 bits, the one that was lost too."""
    attach(client, agent).client.exited(status)
    assert client.received() == frame


def test_fails(client: MemoryConnection, agent: FakeAgent) -> None:
    """An error is the last frame."""
    attachment = attach(client, agent)
    attachment.client.failed("no such pro\N{LATIN SMALL LETTER U WITH DIAERESIS}gram")
    assert client.received() == b"\x02\0\0\0\x11no such pro\xc3\xbcgram"
    assert client.closed
    attachment.client.output_received(1, b"late")
    attachment.client.exited(0)
    assert client.received() == b""


def test_finishes(client: MemoryConnection, agent: FakeAgent) -> None:
    """Logs that are over end with the connection."""
    attachment = attach(client, agent, {"job_id": "j1", "flags": 1 | 2 | 8})
    assert attachment.query == AttachQuery("j1", stdout=True, stderr=True, logs=True)
    attachment.client.finished()
    assert client.received() == b""
    assert client.closed


def test_all_at_once(client: MemoryConnection, agent: FakeAgent) -> None:
    """What is told before the connection is taken over comes right after the head."""

    def known(attachment: FakeAttachment) -> None:
        attachment.client.attached()
        attachment.client.output_received(1, b"x")
        attachment.client.exited(3)

    agent.at_once = known
    client.send(encoded(ALL))
    assert client.received() == SWITCHING + b"\x00\x03\x01\0\0\0\x01x\x05\0\0\0\x03"
    assert client.closed


def test_one_segment(client: MemoryConnection, agent: FakeAgent) -> None:
    """Frames may come in the same segment as the request."""
    client.send(
        encoded(ALL) + b"\x03\x00\x00\x00\x00\x02hi\x04\x00\x00\x00\x02" + b"\x03\x00\x00\x00\x00\x00"
    )
    attachment = agent.attachments[-1]
    assert (attachment.typed, attachment.calls) == (b"hi", [("signal", 2), ("end_input",)])
    assert client.received() == SWITCHING


def test_split_anywhere(clock: Clock, site: APISite, agent: FakeAgent) -> None:
    """Requests and frames may be cut up anywhere."""
    frames = b"\x03\x00\x00\x00\x00\x05hello\x04\x00\x00\x00\x0a\x06\x00\x01\x00\x02\x03\x00\x00\x00\x00\x00"
    whole = encoded(ALL) + frames
    for cut in range(1, len(whole)):
        client = MemoryConnection(clock, site)
        client.send(whole[:cut])
        client.send(whole[cut:])
        attachment = agent.attachments[-1]
        assert attachment.typed == b"hello"
        assert attachment.calls == [("signal", 10), ("resize", 1, 2), ("end_input",)]
        client.lose()
    client = MemoryConnection(clock, site)
    for byte in whole:
        client.send(bytes([byte]))
    assert agent.attachments[-1].typed == b"hello"


def test_chunked_request(client: MemoryConnection, agent: FakeAgent) -> None:
    """A body may come in chunks, with frames right behind it."""
    body = json.dumps(ALL).encode()
    client.send(
        b"POST /attach HTTP/1.1\r\nHost: h\r\nConnection: upgrade\r\nUpgrade: flynn-attach/0\r\n"
        b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n\x03\x00\x00\x00\x00\x01x"
        % (len(body), body)
    )
    assert client.received() == SWITCHING
    assert agent.attachments[-1].typed == b"x"


def test_large_output_is_cut(client: MemoryConnection, agent: FakeAgent) -> None:
    """No frame of data is larger than 64 KiB."""
    attach(client, agent).client.output_received(2, b"x" * 150_000)
    data = client.received()
    sizes = []
    while data:
        assert data[:2] == b"\x03\x02"
        size = int.from_bytes(data[2:6], "big")
        sizes.append(size)
        assert data[6 : 6 + size] == b"x" * size
        data = data[6 + size :]
    assert sizes == [65536, 65536, 18928]


def test_slow_client(clock: Clock, site: APISite, agent: FakeAgent) -> None:
    """A client that takes no more holds its attachment back, and gets all in the end."""
    client = MemoryConnection(clock, site, window=1000)
    attachment = attach(client, agent)
    attachment.client.output_received(1, b"x" * 500)
    assert attachment.calls == []
    attachment.client.output_received(1, b"x" * 500)
    assert attachment.calls == [("pause",)]
    assert len(client.received()) == 1012
    assert attachment.calls == [("pause",), ("resume",)]


def test_slow_process(client: MemoryConnection, agent: FakeAgent) -> None:
    """A process that takes no more input holds the client back."""
    attachment = attach(client, agent)
    attachment.producer.pauseProducing()
    assert client.held_back
    attachment.producer.resumeProducing()
    assert not client.held_back
    attachment.producer.pauseProducing()
    attachment.client.exited(0)
    assert client.received() == b"\x05\0\0\0\0"


def test_client_gone(client: MemoryConnection, agent: FakeAgent, streams: OpenStreams, clock: Clock) -> None:
    """When the client is gone, it is detached, once, and nothing is left."""
    attachment = attach(client, agent)
    client.lose()
    assert attachment.calls == [("detach",)]
    assert len(streams) == 0
    assert clock.getDelayedCalls() == []
    attachment.client.output_received(1, b"late")
    attachment.client.exited(0)


def test_client_takes_nothing_at_the_end(
    client: MemoryConnection, agent: FakeAgent, streams: OpenStreams, clock: Clock
) -> None:
    """A client that never takes the last of it does not keep its connection for good."""
    attachment = attach(client, agent)
    attachment.client.attached()
    client.send(b"\x03\x00\x00\x00\x00\x00")
    attachment.client.exited(0)
    clock.advance(TAKEN_WITHIN)
    assert len(streams) == 0
    assert clock.getDelayedCalls() == []


@pytest.mark.parametrize(
    "frames",
    [
        b"\x07",
        b"\x00",
        b"\x03\x01\x00\x00\x00\x01x",
        b"\x03\x00\xff\xff\xff\xff",
        b"\x02\0\0\0\0",
        b"GET / HTTP/1.1",
    ],
)
def test_not_the_protocol(client: MemoryConnection, agent: FakeAgent, frames: bytes) -> None:
    """A client that does not speak the protocol is told, and detached."""
    attachment = attach(client, agent)
    client.send(frames)
    answer = client.received()
    assert answer[:1] == b"\x02"
    assert b"not the attach protocol" in answer
    assert attachment.calls == [("detach",)]
    assert client.closed
    client.send(b"more")
    assert client.received() == b""


def test_host_stops(client: MemoryConnection, agent: FakeAgent, streams: OpenStreams, clock: Clock) -> None:
    """When the host stops, clients are told why their output ends."""
    attachment = attach(client, agent)
    over: list[None] = []
    streams.close_all().addCallback(over.append)
    assert b"this host is stopping" in client.received()
    assert attachment.calls == [("detach",)]
    clock.advance(CLOSE_WITHIN)
    assert over == [None]
    assert clock.getDelayedCalls() == []


def test_host_is_stopping(client: MemoryConnection, agent: FakeAgent, streams: OpenStreams) -> None:
    """Nobody is attached any more then."""
    streams.close_all()
    client.send(encoded(ALL))
    assert_error(client.answer(), 503, "not_ready", retry=True)
    assert agent.attachments == []


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "job_id"),
        ({"job_id": "", "flags": 1}, "job_id"),
        ({"job_id": "no/job", "flags": 1}, "job_id"),
        ({"job_id": 7, "flags": 1}, "job_id"),
        ({"job_id": "j1"}, "flags"),
        ({"job_id": "j1", "flags": 16}, "flags"),
        ({"job_id": "j1", "flags": 1 | 64}, "flags"),
        ({"job_id": "j1", "flags": -1}, "flags"),
        ({"job_id": "j1", "flags": "1"}, "flags"),
        ({"job_id": "j1", "flags": 1.5}, "flags"),
        ({"job_id": "j1", "flags": None}, "flags"),
        ({"job_id": "j1", "flags": 1 << 70}, "flags"),
        ({"job_id": "j1", "flags": 1, "height": -1}, "height"),
        ({"job_id": "j1", "flags": 1, "width": 65536}, "width"),
        ({"job_id": "j1", "flags": 1, "colour": "red"}, "colour"),
        ([], "body"),
    ],
)
def test_bad_request(client: MemoryConnection, agent: FakeAgent, body: Any, field: str) -> None:
    """What can't be accepted is refused by name, in JSON, and the connection goes on as before."""
    client.request("POST", "/attach", json.dumps(body).encode(), HEADERS)
    assert assert_error(client.answer(), 400, "validation_error")["detail"] == {"field": field}
    assert agent.attachments == []
    attach(client, agent)


@pytest.mark.parametrize("body", [b"", b"{", b"\xff", b"[" * 100_000])
def test_bad_syntax(client: MemoryConnection, body: bytes) -> None:
    """A body is required, and must be JSON."""
    client.request("POST", "/attach", body, HEADERS)
    assert_error(client.answer(), 400, "syntax_error")


@pytest.mark.parametrize(
    ("headers", "field"),
    [
        ({}, "Upgrade"),
        ({"Connection": "upgrade"}, "Upgrade"),
        ({"Connection": "upgrade", "Upgrade": "websocket"}, "Upgrade"),
        ({"Upgrade": "flynn-attach/0"}, "Connection"),
    ],
)
def test_no_upgrade(client: MemoryConnection, headers: dict[str, str], field: str) -> None:
    """A client must ask for the upgrade."""
    client.request("POST", "/attach", json.dumps(ALL).encode(), headers)
    assert assert_error(client.answer(), 400, "validation_error")["detail"] == {"field": field}


def test_http_1_0(client: MemoryConnection) -> None:
    """HTTP/1.0 knows no upgrades."""
    client.request("POST", "/attach", json.dumps(ALL).encode(), HEADERS, version="HTTP/1.0")
    assert_error(client.answer(), 400, "validation_error")


def test_headers_as_others_write_them(client: MemoryConnection, agent: FakeAgent) -> None:
    """Case does not matter, nor what else is in a list, nor a missing content type."""
    body = json.dumps(ALL).encode()
    client.send(
        b"POST /attach HTTP/1.1\r\nHost: h\r\nconnection: keep-alive, Upgrade\r\nupgrade: Flynn-Attach/0\r\n"
        b"Content-Length: %d\r\n\r\n%b" % (len(body), body)
    )
    assert client.received() == SWITCHING


def test_close_is_no_more_than_words(client: MemoryConnection, agent: FakeAgent) -> None:
    """Who upgrades a connection and wants it closed after the answer as well gets the upgrade."""
    client.send(
        encoded(ALL).replace(b"upgrade\r\n", b"upgrade, close\r\n", 1) + b"\x03\x00\x00\x00\x00\x02hi"
    )
    assert client.received() == SWITCHING
    assert agent.attachments[-1].typed == b"hi"
    agent.attachments[-1].client.attached()
    assert client.received() == b"\x00"
    assert not client.closed


def test_pipelined(client: MemoryConnection, agent: FakeAgent) -> None:
    """A connection may have been used for other requests, which are answered first."""
    others = b"GET /host/jobs HTTP/1.1\r\nHost: h\r\n\r\n" * 2
    client.send(others + encoded(ALL) + b"\x03\x00\x00\x00\x00\x02hi")
    received = client.received()
    assert received.startswith(b"HTTP/1.1 200 OK\r\n")
    assert received.endswith(SWITCHING)
    assert agent.attachments[-1].typed == b"hi"


def test_other_content(client: MemoryConnection) -> None:
    """Whoever says that it is no JSON is believed."""
    client.request("POST", "/attach", b"x=1", {**HEADERS, "Content-Type": "text/plain"})
    assert_error(client.answer(), 415, "unsupported_media_type")


def test_other_method(client: MemoryConnection) -> None:
    """There is only POST."""
    client.request("GET", "/attach", headers=HEADERS)
    assert_error(client.answer(), 405, "method_not_allowed")


def test_wait(client: MemoryConnection, agent: FakeAgent) -> None:
    """A client waits for its job unless it says that it does not."""
    later = {"job_id": "later", "flags": 1}
    client.send(encoded(later, "/attach?wait=false"))
    assert_error(client.answer(), 404, "object_not_found")
    client.send(encoded(later, "/attach?wait=maybe"))
    assert assert_error(client.answer(), 400, "validation_error")["detail"] == {"field": "wait"}
    attachment = attach(client, agent, later)
    assert attachment.query is not None
    assert attachment.query.wait


def test_too_many_wait(client: MemoryConnection, agent: FakeAgent) -> None:
    """One too many is told to come again."""

    def refuse(_: FakeAttachment) -> None:
        raise TooManyRequests("1000 requests that wait")

    agent.at_once = refuse
    client.send(encoded(ALL))
    assert_error(client.answer(), 429, "ratelimited", retry=True)


@pytest.mark.parametrize(
    ("given", "meant"),
    [("h1-j1", "j1"), ("h1-later", "later"), ("h2-later", "h2-later"), ("h1-", "h1-"), ("h1-h1-x", "h1-x")],
)
def test_compound_id(client: MemoryConnection, agent: FakeAgent, given: str, meant: str) -> None:
    """A job's ID may have that of this host before it."""
    query = attach(client, agent, {"job_id": given, "flags": 1}).query
    assert query is not None
    assert query.job_id == meant


def test_id_that_looks_compound(client: MemoryConnection, agent: FakeAgent) -> None:
    """A job that is called so is meant."""
    agent.accept([Job("h1-j1", Artifact("busybox"))], 0)
    query = attach(client, agent, {"job_id": "h1-j1", "flags": 1}).query
    assert query is not None
    assert query.job_id == "h1-j1"


def test_no_init_log(client: MemoryConnection, agent: FakeAgent) -> None:
    """Flynn's flag for the log of init is taken, though there is none."""
    assert attach(client, agent, {"job_id": "j1", "flags": 1 | 32}).query == AttachQuery("j1", stdout=True)


def test_hundred_readers(clock: Clock, site: APISite, agent: FakeAgent, streams: OpenStreams) -> None:
    """All get the same bytes."""
    clients = [MemoryConnection(clock, site) for _ in range(100)]
    for client in clients:
        attach(client, agent)
    for attachment in agent.attachments:
        attachment.client.attached()
        for number in range(100):
            attachment.client.output_received(1 + number % 2, b"%d" % number)
        attachment.client.exited(0)
    assert len({client.received() for client in clients}) == 1
    for client in clients:
        client.lose()
    assert len(streams) == 0


def test_many_come_and_go(clock: Clock, site: APISite, agent: FakeAgent, streams: OpenStreams) -> None:
    """A thousand who attach and leave leave nothing behind."""
    for _ in range(1000):
        client = MemoryConnection(clock, site)
        attach(client, agent)
        client.lose()
        assert agent.attachments.pop().calls == [("detach",)]
    assert len(streams) == 0
    assert clock.getDelayedCalls() == []


# --- commands ------------------------------------------------------------------

EXEC = "/host/jobs/j1/exec"


def test_exec(client: MemoryConnection, agent: FakeAgent) -> None:
    """A command is described in full, and speaks the same protocol."""
    body = {
        "cmd": ["ls", "", "-l"],
        "env": {"A": "b"},
        "tty": True,
        "stdin": True,
        "user": "1000:5",
        "working_dir": "/tmp",
        "height": 24,
        "width": 80,
    }
    client.send(encoded(body, EXEC) + b"\x03\x00\x00\x00\x00\x01x")
    attachment = agent.attachments[-1]
    assert attachment.job_id == "j1"
    assert attachment.spec == ExecSpec(("ls", "", "-l"), {"A": "b"}, True, True, "1000:5", "/tmp", 24, 80)
    assert attachment.typed == b"x"
    attachment.client.attached()
    attachment.client.output_received(1, b"out")
    attachment.client.exited(1)
    assert client.received() == SWITCHING + b"\x00\x03\x01\0\0\0\x03out\x05\0\0\0\x01"
    assert client.closed


def test_exec_in_short(client: MemoryConnection, agent: FakeAgent) -> None:
    """Only the command is required."""
    client.send(encoded({"cmd": ["true"], "env": None}, EXEC))
    assert agent.attachments[-1].spec == ExecSpec(("true",))


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "cmd"),
        ({"cmd": []}, "cmd"),
        ({"cmd": "ls"}, "cmd"),
        ({"cmd": [1]}, "cmd[0]"),
        ({"cmd": [""]}, "cmd[0]"),
        ({"cmd": ["a\0"]}, "cmd[0]"),
        ({"cmd": ["a"], "env": {"": "x"}}, "env"),
        ({"cmd": ["a"], "env": {"A=": "x"}}, "env.A="),
        ({"cmd": ["a"], "env": {"A": 1}}, "env.A"),
        ({"cmd": ["a"], "tty": 1}, "tty"),
        ({"cmd": ["a"], "stdin": "yes"}, "stdin"),
        ({"cmd": ["a"], "user": 0}, "user"),
        ({"cmd": ["a"], "working_dir": "tmp"}, "working_dir"),
        ({"cmd": ["a"], "height": 70000}, "height"),
        ({"cmd": ["a"], "shell": True}, "shell"),
    ],
)
def test_bad_exec(client: MemoryConnection, agent: FakeAgent, body: Any, field: str) -> None:
    """What can't be accepted is refused by name."""
    client.request("POST", EXEC, json.dumps(body).encode(), HEADERS)
    assert assert_error(client.answer(), 400, "validation_error")["detail"] == {"field": field}
    assert agent.attachments == []


def test_exec_where_it_can_not_be(client: MemoryConnection, agent: FakeAgent) -> None:
    """There must be such a job, and it must run."""
    body = json.dumps({"cmd": ["true"]}).encode()
    client.request("POST", "/host/jobs/j2/exec", body, HEADERS)
    assert_error(client.answer(), 404, "object_not_found")
    agent.end("j1", 0)
    client.request("POST", EXEC, body, HEADERS)
    assert_error(client.answer(), 409, "conflict")
    client.request("POST", EXEC, body)
    assert_error(client.answer(), 400, "validation_error")
    client.request("GET", EXEC, headers=HEADERS)
    assert_error(client.answer(), 405, "method_not_allowed")
