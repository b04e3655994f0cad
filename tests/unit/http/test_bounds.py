"""Bounds on requests: size and time."""

from __future__ import annotations

import gc

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.task import Clock

from flynnhost.http import request as bounded
from flynnhost.http.site import IDLE_TIMEOUT, APISite, build_site
from flynnhost.testing.agent import FakeAgent, FakeCluster
from flynnhost.testing.http_connection import Answer, MemoryConnection
from tests.support.http_errors import assert_error

HEAD = b"PUT /host/jobs/j1 HTTP/1.1\r\nHost: h\r\nContent-Type: application/json\r\n"
CHUNK = b"100000\r\n" + b"x" * 0x100000 + b"\r\n"


def assert_refused(answer: Answer) -> None:
    assert_error(answer, 413, "too_large")
    assert answer.headers["connection"] == "close"


def test_length_too_large(client: MemoryConnection, agent: FakeAgent) -> None:
    """Who says that a body will be too large is refused before it comes."""
    client.send(HEAD + b"Content-Length: 16777217\r\n\r\n")
    assert_refused(client.answer())
    assert not client.closed


def test_leave_to_send(client: MemoryConnection) -> None:
    """Who asks for leave to send it does not get it."""
    client.send(HEAD + b"Content-Length: 16777217\r\nExpect: 100-continue\r\n\r\n")
    assert_refused(client.answer())


def test_absurd_length(client: MemoryConnection) -> None:
    """However large it is."""
    client.send(HEAD + b"Content-Length: " + b"9" * 4000 + b"\r\n\r\n")
    assert_refused(client.answer())


def test_goes_on_sending(client: MemoryConnection) -> None:
    """What comes all the same is dropped, and in the end the connection is closed in good order."""
    client.send(HEAD + b"Content-Length: 16777217\r\n\r\n")
    client.received()
    client.send(b"x" * 16777216)
    assert not client.closed
    client.send(b"x")
    assert client.closed
    assert client.received() == b""


def test_goes_on_sending_for_too_long(client: MemoryConnection, clock: Clock) -> None:
    """But not for ever."""
    client.send(HEAD + b"Content-Length: 99999999999\r\n\r\n")
    client.received()
    for _ in range(9):
        clock.advance(1)
        client.send(b"x" * 1000)
    assert not client.aborted
    clock.advance(1)
    assert client.aborted


def test_chunks_too_large(client: MemoryConnection, agent: FakeAgent) -> None:
    """A body of unknown length is refused when it gets too large."""
    client.send(HEAD + b"Transfer-Encoding: chunked\r\n\r\n")
    for _ in range(16):
        client.send(CHUNK)
    assert client.received() == b""
    client.send(CHUNK)
    assert_refused(client.answer())
    client.send(CHUNK + b"0\r\n\r\n")
    assert client.closed
    assert client.received() == b""
    assert dict(agent.jobs()) == {}


def test_refused_body_is_not_kept(client: MemoryConnection) -> None:
    """Of what is refused, nothing is kept in memory."""
    client.send(HEAD + b"Transfer-Encoding: chunked\r\n\r\n")
    for _ in range(40):
        client.send(CHUNK)
    gc.collect()
    requests = [each for each in gc.get_objects() if isinstance(each, bounded.BoundedRequest)]
    assert max(len(each._body.getvalue()) for each in requests) == 0


@pytest.mark.parametrize("chunked", [True, False])
def test_largest_body(client: MemoryConnection, chunked: bool) -> None:
    """A body of exactly the bound is read."""
    body = b'{"artifact":{"url":"busybox"}}'
    body += b" " * (bounded.MAX_BODY_BYTES - len(body))
    if chunked:
        client.send(HEAD + b"Transfer-Encoding: chunked\r\n\r\n1000000\r\n" + body + b"\r\n0\r\n\r\n")
    else:
        client.request("PUT", "/host/jobs/j1", body)
    assert client.answer().status == 200


def test_body_of_get(client: MemoryConnection) -> None:
    """A body that is not asked for is ignored."""
    client.request("GET", "/host/jobs", b"nonsense")
    assert client.answer().status == 200
    client.request("GET", "/health")
    assert client.answer().status == 200


def test_idle(client: MemoryConnection, clock: Clock) -> None:
    """A connection without requests is closed after a while."""
    client.request("GET", "/health")
    client.received()
    clock.advance(IDLE_TIMEOUT - 1)
    assert not client.closed
    clock.advance(2)
    assert client.closed


def test_slow_request(clock: Clock, site: APISite) -> None:
    """A request that comes drop by drop is given up, however steadily it comes."""
    client = MemoryConnection(clock, site)
    client.send(HEAD + b"Content-Length: 1000\r\n\r\n")
    for _ in range(bounded.RECEIVE_WITHIN - 1):
        clock.advance(1)
        client.send(b"x")
    assert not client.aborted
    clock.advance(1)
    assert client.aborted


def test_no_deadline_after_the_request(clock: Clock, client: MemoryConnection) -> None:
    """The time for a request to come in is not the time for an answer."""
    client.request("GET", "/cluster/events")
    clock.pump([10] * 100)
    assert not client.aborted
    assert not client.closed


def test_client_gone_in_the_middle(clock: Clock, client: MemoryConnection) -> None:
    """Of a request that breaks off, nothing remains."""
    client.send(HEAD + b"Content-Length: 1000\r\n\r\nxx")
    client.lose()
    assert clock.getDelayedCalls() == []


def test_pipelined(client: MemoryConnection) -> None:
    """Requests sent at once are answered in order."""
    client.send(b"GET /health HTTP/1.1\r\nHost: h\r\n\r\nGET /nope HTTP/1.1\r\nHost: h\r\n\r\n")
    data = client.received()
    assert data.index(b"200 OK") < data.index(b"404 Not Found")


@pytest.mark.parametrize(
    "path", ["*", "http://h/host/jobs", "//", "/?x", "/%00", "/host/jobs/%00", "/host/jobs/" + "a" * 10000]
)
def test_odd_paths(client: MemoryConnection, path: str) -> None:
    """An odd path is answered properly, and is no failure of ours."""
    client.request("GET", path)
    answer = client.answer()
    assert 400 <= answer.status < 500
    assert answer.json["code"]


METHODS = st.sampled_from(["GET", "PUT", "POST", "DELETE", "HEAD", "OPTIONS", "BREW"])
SEGMENTS = st.sampled_from(
    [
        "host",
        "jobs",
        "cluster",
        "hosts",
        "events",
        "leader",
        "health",
        "signal",
        "log",
        "status",
        "9",
        "%00",
        "%ff",
        "",
    ]
)
QUERIES = st.text("abfollowtailstreamsincesnapshot=&;%+1?", max_size=20)
HEADERS = st.dictionaries(
    st.sampled_from(
        ["Accept", "Content-Type", "Host", "Prefer", "Last-Event-ID", "Cookie", "Expect", "Connection"]
    ),
    st.sampled_from(
        ["text/event-stream", "application/json", "close", ";,=", "\xff", "", "100-continue", "[::1"]
    )
    | st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=12),
)


@given(METHODS, st.lists(SEGMENTS, max_size=5), QUERIES, HEADERS, st.none() | st.binary(max_size=30))
def test_any_request(
    method: str, segments: list[str], query: str, headers: dict[str, str], body: bytes | None
) -> None:
    """No request makes a failure of ours; every error has the one shape."""
    clock = Clock()
    site, _ = build_site(clock, FakeAgent(clock), FakeCluster())
    client = MemoryConnection(clock, site)
    client.request(method, f"/{'/'.join(segments)}?{query}", body, headers)
    clock.advance(0)
    data = client.received()
    status = int(data.removeprefix(b"HTTP/1.1 100 Continue\r\n\r\n").split(b" ")[1])
    assert status in (200, *range(400, 418), 503)
    if status >= 400 and method != "HEAD":
        assert b'{"code":"' in data
    client.lose()
    assert clock.getDelayedCalls() == []
