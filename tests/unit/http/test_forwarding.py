"""A host that does not lead has the leader answer, which is played here byte by byte."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from attrs import define, evolve, field
from twisted.internet.testing import MemoryReactorClock

from flynnhost.cluster.records import LeaderRecord
from flynnhost.http import forwarding
from flynnhost.http.forwarded import ANSWER_WITHIN, SILENT_FOR, STALL_LIMIT
from flynnhost.http.forwarding import CHANGE_WITHIN, CONNECT_WITHIN
from flynnhost.http.open_streams import OpenStreams
from flynnhost.http.outflow import CLOSE_WITHIN, FLUSH_WITHIN
from flynnhost.http.site import APISite, build_site
from flynnhost.interfaces import Following, ILeaderRecord
from flynnhost.testing.agent import FakeAgent, FakeCluster
from flynnhost.testing.http_connection import Answer, MemoryConnection, dechunk
from flynnhost.testing.http_peer import MemoryPeer, PeerConnection
from tests.support.http_errors import assert_error

H1 = LeaderRecord("h1", "10.0.0.1:1113", 7, "2020-01-01T00:00:00Z")
OK = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n[]"
EVENTS = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\nTransfer-Encoding: chunked\r\n\r\n"
)


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def a_batch(*job_ids: str) -> bytes:
    return json.dumps({"h1": [{"id": job_id, "artifact": {"url": "x"}} for job_id in job_ids]}).encode()


@define(eq=False)
class Rig:
    """Host h2, which follows."""

    reactor: MemoryReactorClock = field(factory=MemoryReactorClock)
    record: LeaderRecord | None = H1
    joined_term: int = 7
    current: bool = True
    leader: MemoryPeer = field(init=False)
    cluster: FakeCluster = field(init=False)
    site: APISite = field(init=False)
    streams: OpenStreams = field(init=False)
    listeners: list[Callable[[ILeaderRecord | None], None]] = field(factory=list)

    def __attrs_post_init__(self) -> None:
        self.leader = MemoryPeer(self.reactor)
        self.cluster = FakeCluster()
        self.cluster.leading = False
        following = Following(
            lambda: self.record, lambda: self.current, lambda: self.joined_term, self.listeners.append
        )
        agent = FakeAgent(self.reactor, "h2")
        self.site, self.streams = build_site(self.reactor, agent, self.cluster, following)

    def client(self, window: int = 1 << 62) -> MemoryConnection:
        return MemoryConnection(self.reactor, self.site, window)

    def ask(
        self, method: str, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> MemoryConnection:
        client = self.client()
        client.request(method, path, body, headers)
        return client

    def got(self, path: str) -> Answer:
        return self.ask("GET", path).answer()

    def begin_stream(self, window: int = 1 << 62) -> tuple[MemoryConnection, PeerConnection]:
        """A client with a stream of events that the leader has begun."""
        client = self.client(window)
        client.request("GET", "/cluster/events")
        peer = self.leader.accept()
        peer.send(EVENTS)
        head = client.received()
        assert head.startswith(b"HTTP/1.1 200 OK\r\n") and head.endswith(b"\r\n\r\n")
        return client, peer

    def change(self, record: LeaderRecord | None) -> None:
        """The leader's record changes."""
        self.record = record
        for listener in self.listeners:
            listener(record)


@pytest.fixture
def rig() -> Rig:
    return Rig()


# --- what the leader is asked -------------------------------------------------


def test_a_request(rig: Rig) -> None:
    """The leader gets the request as it was, but for what concerns the connection."""
    headers = {
        "Accept": "application/json",
        "Prefer": "return=minimal",
        "Authorization": "Bearer x",
        "Last-Event-ID": "t7-1",
        "If-None-Match": '"x"',
        "Accept-Encoding": "gzip",
        "Connection": "keep-alive, X-Own",
        "X-Own": "1",
        "TE": "trailers",
        "Expect": "100-continue",
    }
    client = rig.ask("GET", "/cluster/hosts?jobs=ids", headers=headers)
    peer = rig.leader.accept()
    assert rig.leader.attempts == [("10.0.0.1", 1113)]
    head, _, body = peer.received().partition(b"\r\n\r\n")
    line, *fields = head.split(b"\r\n")
    assert (line, body) == (b"GET /cluster/hosts?jobs=ids HTTP/1.1", b"")
    assert {field.lower() for field in fields} == {
        b"accept: application/json",
        b"prefer: return=minimal",
        b"authorization: bearer x",
        b"last-event-id: t7-1",
        b'if-none-match: "x"',
        b"accept-encoding: gzip",
        b"content-type: application/json",
        b"host: 10.0.0.1:1113",
        b"x-cluster-forwarded-by: h2",
    }
    peer.send(OK)
    answer = client.received()
    assert answer.endswith(b"\r\n\r\n[]")


def test_an_answer(rig: Rig) -> None:
    """The client gets the answer as it was, but for what concerns the connection."""
    client = rig.ask("GET", "/cluster/hosts")
    rig.leader.accept().send(
        b"HTTP/1.1 418 Short And Stout\r\nX-Cluster-Complete: false\r\nRetry-After: 7\r\n"
        b"X-Two: a\r\nX-Two: b\r\nDate: then\r\nContent-Encoding: gzip\r\nConnection: close\r\n"
        b"Content-Length: 3\r\n\r\nabc"
    )
    head, _, body = client.received().partition(b"\r\n\r\n")
    line, *fields = head.split(b"\r\n")
    assert (line, body) == (b"HTTP/1.1 418 Short And Stout", b"abc")
    assert set(fields) == {
        b"X-Cluster-Complete: false",
        b"Retry-After: 7",
        b"X-Two: a",
        b"X-Two: b",
        b"Date: then",
        b"Content-Encoding: gzip",
        b"Content-Length: 3",
    }


def test_a_body(rig: Rig) -> None:
    """A body is sent in pieces, as fast as the leader takes it."""
    body = b'{"h1": []}' + b" " * 200_000
    rig.ask("POST", "/cluster/jobs", body)
    peer = rig.leader.accept()
    rig.reactor.pump([0] * 10)
    head, _, sent = peer.received().partition(b"\r\n\r\n")
    assert head.startswith(b"POST /cluster/jobs HTTP/1.1\r\n")
    assert b"Content-Length: 200010" in head.split(b"\r\n")
    assert sent == body


@pytest.mark.parametrize("method", ["GET", "DELETE"])
def test_bodies_that_are_ignored(rig: Rig, method: str) -> None:
    """What no route reads is not sent."""
    rig.ask(method, "/cluster/hosts/h1/jobs/j1", b"{}")
    head, _, body = rig.leader.accept().received().partition(b"\r\n\r\n")
    assert (body, b"content-length" in head.lower()) == (b"", False)


@pytest.mark.parametrize(
    ("asked", "forwarded"),
    [
        ("/cluster/hosts/%C3%A4%2Fb?jobs=ids&x=%20", "/cluster/hosts/%C3%A4%2Fb?jobs=ids&x=%20"),
        ("/cluster/hosts/a#x;y?b#c", "/cluster/hosts/a%23x%3By?b%23c"),
        ("/%63luster/hosts", "/%63luster/hosts"),
        ("@cluster/hosts", "/cluster/hosts"),
        ("/cluster", "/cluster"),
        ("/cluster//hosts/", "/cluster//hosts/"),
    ],
)
def test_targets(rig: Rig, asked: str, forwarded: str) -> None:
    """Whatever a path looks like, the leader is asked for the same one, and nobody else is asked."""
    rig.ask("GET", asked)
    assert rig.leader.accept().received().startswith(f"GET {forwarded} HTTP/1.1\r\n".encode())
    assert rig.leader.attempts == [("10.0.0.1", 1113)]


def test_a_path_that_is_not_text(rig: Rig) -> None:
    """What the leader would not read is refused here."""
    assert_error(rig.got("/cluster/hosts/%FF"), 400, "validation_error")
    assert rig.leader.waiting == 0


@pytest.mark.parametrize("method", ["OPTIONS", "BREW", "get", "M!X"])
def test_unheard_of_methods(rig: Rig, method: str) -> None:
    """The leader says what it thinks of a method."""
    rig.ask(method, "/cluster/hosts")
    assert rig.leader.accept().received().startswith(f"{method} /cluster/hosts HTTP/1.1\r\n".encode())


def test_an_address_of_six_groups(rig: Rig) -> None:
    """The leader may have an IPv6 address."""
    rig.change(evolve(H1, addr="[fd00::1]:1113"))
    rig.ask("GET", "/cluster/hosts")
    assert b"\r\nHost: [fd00::1]:1113\r\n" in rig.leader.accept().received()
    assert rig.leader.attempts == [("fd00::1", 1113)]


def test_connections_are_kept(rig: Rig) -> None:
    """The next request goes over the same connection, until that was idle for a while."""
    client = rig.client()
    client.request("GET", "/cluster/hosts")
    peer = rig.leader.accept()
    for _ in range(3):
        peer.received()
        peer.send(OK)
        assert client.answer().body == b"[]"
        client.request("GET", "/cluster/hosts")
    assert rig.leader.waiting == 0
    peer.send(OK)
    rig.reactor.advance(60)
    assert peer.closed


# --- nobody to ask ------------------------------------------------------------


ROUTES = [
    ("GET", "/cluster/hosts"),
    ("GET", "/cluster/hosts/h1"),
    ("PUT", "/cluster/hosts/f1"),
    ("DELETE", "/cluster/hosts/h1/jobs/j1"),
    ("POST", "/cluster/jobs"),
    ("GET", "/cluster/events"),
    ("GET", "/cluster/leader"),
]


@pytest.mark.parametrize(("method", "path"), ROUTES)
@pytest.mark.parametrize("record", [None, evolve(H1, id="h2")])
def test_no_leader(rig: Rig, method: str, path: str, record: LeaderRecord | None) -> None:
    """Nobody leads, or this host is said to and does not yet: try again later."""
    rig.record = record
    assert_error(rig.ask(method, path, b"{}").answer(), 503, "no_leader", retry=True)
    assert rig.leader.waiting == 0


@pytest.mark.parametrize(("method", "path"), ROUTES[:-1])
def test_no_loops(rig: Rig, method: str, path: str) -> None:
    """What was forwarded once is not forwarded again."""
    answer = rig.ask(method, path, b"{}", {"X-Cluster-Forwarded-By": "h3"}).answer()
    assert_error(answer, 503, "no_leader", retry=True)
    assert rig.leader.waiting == 0


def test_sessions_are_not_forwarded(rig: Rig) -> None:
    """Hosts connect to the leader itself."""
    assert_error(rig.got("/cluster/session"), 404, "not_found")
    assert_error(rig.got("/cluster/%73ession"), 404, "not_found")
    assert rig.leader.waiting == 0


@pytest.mark.parametrize("addr", ["", "h1", "h1:", "h1:x", ":1113", "a b:1", "x@h1:1", "ä:1"])
def test_no_address(rig: Rig, addr: str) -> None:
    """A record that names no address is as good as none."""
    rig.change(evolve(H1, addr=addr))
    assert rig.got("/cluster/hosts").status == 503
    assert rig.leader.waiting == 0


def test_who_leads(rig: Rig) -> None:
    """Every host knows who leads, without asking."""
    assert rig.got("/cluster/leader").json == {
        "id": "h1",
        "addr": "10.0.0.1:1113",
        "term": 7,
        "since": "2020-01-01T00:00:00Z",
    }
    head = rig.ask("HEAD", "/cluster/leader").received()
    assert head.startswith(b"HTTP/1.1 200 OK\r\n") and head.endswith(b"\r\n\r\n")
    assert_error(rig.ask("PUT", "/cluster/leader").answer(), 405, "method_not_allowed")
    assert_error(
        rig.ask("GET", "/cluster/leader", headers={"Accept": "text/html"}).answer(), 406, "not_acceptable"
    )
    assert rig.leader.waiting == 0


def test_who_may_lead_still(rig: Rig) -> None:
    """Without word from etcd, only who has joined a leader knows that it leads; it is asked all the same."""
    rig.current = False
    assert rig.got("/cluster/leader").json["id"] == "h1"
    rig.joined_term = 0
    assert_error(rig.got("/cluster/leader"), 503, "no_leader", retry=True)
    rig.current = True
    assert rig.got("/cluster/leader").json["id"] == "h1"
    rig.current = False
    rig.ask("GET", "/cluster/hosts")
    rig.leader.accept()


def test_this_host_leads(rig: Rig) -> None:
    """The leader answers itself, also if the record is another's still, or it was forwarded to it."""
    rig.cluster.leading = True
    assert rig.ask("GET", "/cluster/hosts", headers={"X-Cluster-Forwarded-By": "h3"}).answer().body == b"[]"
    assert rig.got("/cluster/leader").json["id"] == rig.cluster.leader()["id"]
    assert rig.leader.waiting == 0


def test_ready(rig: Rig) -> None:
    """A host is ready when it has joined whoever leads, or leads itself."""

    def check() -> tuple[bool, str]:
        answer = rig.got("/ready").json
        report = answer["detail"] if isinstance(answer, dict) else answer
        (found,) = [each for each in report if each["name"] == "leader"]
        return found["ok"], found["detail"]

    assert check() == (True, "h1 leads")
    rig.joined_term = 0
    assert check() == (False, "h1 leads, and this host has no session with it")
    rig.record = None
    assert check() == (False, "the cluster has no leader at the moment")
    rig.cluster.leading = True
    assert check()[0]


# --- the leader does not answer -----------------------------------------------


def test_unreachable(rig: Rig) -> None:
    """A leader that can't be connected to is none for now, and nothing was sent to it."""
    client = rig.ask("POST", "/cluster/jobs", a_batch("j1"))
    rig.leader.refuse()
    error = assert_error(client.answer(), 503, "no_leader", retry=True)
    assert "10.0.0.1:1113" in error["message"]
    assert rig.reactor.tcpClients == []


def test_connecting_has_a_deadline(rig: Rig) -> None:
    """Whoever does not take the connection in time is given up."""
    rig.ask("GET", "/cluster/hosts")
    assert rig.reactor.tcpClients[0][3] == CONNECT_WITHIN


@pytest.mark.parametrize("sent", [b"", b"HTTP/1.1 200 OK\r\nX: y", b"what?\r\n\r\n"])
def test_the_connection_breaks(rig: Rig, sent: bytes) -> None:
    """A read can be tried again."""
    client = rig.ask("GET", "/cluster/hosts")
    peer = rig.leader.accept()
    if sent:
        peer.send(sent)
    peer.lose()
    rig.reactor.advance(0)
    assert_error(client.answer(), 503, "no_leader", retry=True)


def test_the_connection_breaks_on_a_batch(rig: Rig) -> None:
    """Of a batch that may have been read it is not known what became of it."""
    client = rig.ask("POST", "/cluster/jobs", a_batch("j1", "j2"))
    peer = rig.leader.accept()
    rig.reactor.pump([0] * 5)
    peer.lose()
    error = assert_error(client.answer(), 504, "timeout", retry=True)
    assert error["detail"] == {"outcomes": {"j1": "unknown", "j2": "unknown"}}
    assert "may be accepted or not" in error["message"]


def test_the_connection_breaks_while_a_batch_is_sent(rig: Rig) -> None:
    """The same if not all of it was sent, as far as this host knows."""
    client = rig.ask("POST", "/cluster/jobs", b"what?")
    rig.leader.accept().lose()
    error = assert_error(client.answer(), 504, "timeout", retry=True)
    assert "detail" not in error


@pytest.mark.parametrize(
    ("method", "path", "body", "detail"),
    [
        ("GET", "/cluster/hosts", None, None),
        ("POST", "/cluster/jobs", a_batch("j1"), {"outcomes": {"j1": "unknown"}}),
        ("PUT", "/cluster/hosts/f1", b'{"id":"f1"}', None),
    ],
)
def test_the_leader_hangs(rig: Rig, method: str, path: str, body: bytes | None, detail: Any) -> None:
    """An answer that does not begin in time is not waited for any longer."""
    client = rig.ask(method, path, body)
    peer = rig.leader.accept()
    rig.reactor.pump([0] * 5)
    rig.reactor.advance(ANSWER_WITHIN - 1)
    assert client.received() == b""
    rig.reactor.advance(1)
    assert assert_error(client.answer(), 504, "timeout", retry=True).get("detail") == detail
    assert peer.aborted


def test_a_leader_that_does_not_read(rig: Rig) -> None:
    """A body that the leader does not take is given up too."""
    client = rig.ask("POST", "/cluster/jobs", a_batch("j1"))
    peer = rig.leader.accept()
    rig.reactor.advance(ANSWER_WITHIN)
    assert_error(client.answer(), 504, "timeout", retry=True)
    assert peer.aborted


@pytest.mark.parametrize("accepted", [False, True])
def test_the_client_leaves_before_the_answer(rig: Rig, accepted: bool) -> None:
    """Nobody waits for an answer that nobody wants."""
    client = rig.ask("GET", "/cluster/hosts")
    peer = rig.leader.accept() if accepted else None
    client.lose()
    rig.reactor.advance(0)
    assert len(rig.streams) == 0
    if peer is not None:
        assert peer.aborted
    else:
        assert rig.reactor.connectors[0].stoppedConnecting


def test_an_old_connection(rig: Rig) -> None:
    """A read that a kept connection turns out to be too old for is made again on a new one."""
    client = rig.ask("GET", "/cluster/hosts")
    peer = rig.leader.accept()
    peer.send(OK)
    client.answer()
    client.request("GET", "/cluster/hosts")
    peer.lose()
    rig.leader.accept().send(OK)
    assert client.answer().body == b"[]"


def test_too_many(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bounded number of requests is forwarded at a time."""
    monkeypatch.setattr(forwarding, "MAX_FORWARDED", 2)
    first, _ = rig.ask("GET", "/cluster/events"), rig.ask("GET", "/cluster/events")
    assert_error(rig.got("/cluster/hosts"), 429, "ratelimited", retry=True)
    first.lose()
    rig.reactor.advance(0)
    rig.ask("GET", "/cluster/hosts")
    assert rig.leader.waiting == 3


# --- streams ------------------------------------------------------------------


def test_a_stream(rig: Rig) -> None:
    """Events come at once, piece by piece, and end as the leader ends them."""
    client, peer = rig.begin_stream()
    for data in (b"data: 1\n\n", b":\n", b"da", b"ta: 2\n\n"):
        peer.send(chunk(data))
        assert client.received() == chunk(data)
    peer.send(b"0\r\n\r\n")
    assert client.received() == b"0\r\n\r\n"
    client.request("GET", "/cluster/hosts")
    peer.received()
    peer.send(OK)
    assert client.answer().body == b"[]"


def test_the_client_leaves_a_stream(rig: Rig) -> None:
    """The leader is told at once that nobody listens any more."""
    client, peer = rig.begin_stream()
    peer.send(chunk(b"data: 1\n\n"))
    client.lose()
    assert peer.closed
    rig.reactor.advance(0)
    assert len(rig.streams) == 0
    assert [call for call in rig.reactor.getDelayedCalls() if call.active()] == []


@pytest.mark.parametrize("data", [b"", b"data: 1\n\n", b":\n", b"data: 1\n\n:\n"])
def test_the_leader_leaves_a_stream(rig: Rig, data: bytes) -> None:
    """Between two events, the last one says that the stream is not whole."""
    client, peer = rig.begin_stream()
    if data:
        peer.send(chunk(data))
    peer.lose()
    content, rest, ended = dechunk(client.received())
    assert (rest, ended) == (b"", True)
    assert content == data + b"event: error\ndata: the connection to the leader h1 broke\n\n"


@pytest.mark.parametrize("data", [b"data: 1", b"data: x:\n", b"id: 1\ndata: {}\n"])
def test_the_leader_leaves_in_the_middle_of_an_event(rig: Rig, data: bytes) -> None:
    """Nothing is put into an event: the connection is cut."""
    client, peer = rig.begin_stream()
    peer.send(chunk(data))
    peer.lose()
    assert client.aborted
    assert client.received() == chunk(data)


@pytest.mark.parametrize("framing", [b"Content-Length: 10", b"Transfer-Encoding: chunked", b"X: y"])
def test_the_leader_leaves_an_answer(rig: Rig, framing: bytes) -> None:
    """What is no stream of events is cut, so that nobody takes it for whole."""
    client = rig.ask("GET", "/cluster/hosts")
    peer = rig.leader.accept()
    peer.send(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n%b\r\n\r\n" % framing)
    peer.send(chunk(b"[1,") if b"chunked" in framing else b"[1,")
    assert not client.aborted
    peer.lose()
    assert client.aborted


def test_a_silent_leader(rig: Rig) -> None:
    """A leader that does not even send what keeps a stream alive is given up."""
    client, peer = rig.begin_stream()
    rig.reactor.advance(SILENT_FOR - 1)
    peer.send(chunk(b":\n"))
    rig.reactor.advance(SILENT_FOR - 1)
    assert client.received() == chunk(b":\n")
    rig.reactor.advance(1)
    assert b"event: error\ndata: nothing was heard of the leader h1 for 45 s\n\n" in client.received()
    assert peer.closed


# --- slow readers -------------------------------------------------------------


def test_a_slow_reader(rig: Rig) -> None:
    """One who does not read holds the leader back, and nothing is kept here."""
    client, peer = rig.begin_stream(window=100)
    peer.send(chunk(b"data: %b\n\n" % (b"x" * 200)))
    assert peer.paused
    client.received()
    assert not peer.paused
    peer.send(chunk(b"data: 2\n\n"))
    assert client.received() == chunk(b"data: 2\n\n")


def test_a_reader_that_hangs(rig: Rig) -> None:
    """One who reads nothing for too long is told so, and cut off."""
    client, peer = rig.begin_stream(window=100)
    peer.send(chunk(b"data: %b\n\n" % (b"x" * 200)))
    rig.reactor.advance(STALL_LIMIT - 1)
    assert not peer.closed
    rig.reactor.advance(1)
    assert peer.closed
    assert dechunk(client.received())[0].endswith(b"\n\nevent: error\ndata: fell behind\n\n")
    assert client.received() == b"0\r\n\r\n"


def test_a_reader_that_hangs_for_good(rig: Rig) -> None:
    """What is left for it is kept for a bounded time."""
    client, peer = rig.begin_stream(window=100)
    peer.send(chunk(b"data: %b\n\n" % (b"x" * 200)))
    rig.reactor.advance(STALL_LIMIT)
    rig.reactor.advance(FLUSH_WITHIN)
    assert client.aborted


def test_a_slow_reader_is_no_silent_leader(rig: Rig) -> None:
    """While the leader is held back its silence means nothing."""
    client, peer = rig.begin_stream(window=100)
    for _ in range(3):
        peer.send(chunk(b"data: %b\n\n" % (b"x" * 200)))
        rig.reactor.advance(SILENT_FOR + 1)
        assert b"error" not in client.received()
    assert not peer.closed


# --- changes of the leader ----------------------------------------------------


def test_another_leader(rig: Rig) -> None:
    """Requests go to whoever leads, and connections to whoever led are closed."""
    client = rig.ask("GET", "/cluster/hosts")
    old = rig.leader.accept()
    old.send(OK)
    client.answer()
    rig.change(LeaderRecord("h3", "10.0.0.3:1113", 9))
    client.request("GET", "/cluster/hosts")
    rig.leader.accept().send(OK)
    assert client.answer().body == b"[]"
    assert rig.leader.attempts[-1] == ("10.0.0.3", 1113)
    rig.reactor.advance(CHANGE_WITHIN)
    assert old.closed


@pytest.mark.parametrize("record", [None, evolve(H1, term=9)])
def test_requests_to_an_old_leader(rig: Rig, record: LeaderRecord | None) -> None:
    """Whoever led has a moment to end what it was asked; then it is not waited for."""
    stream, stream_peer = rig.begin_stream()
    read, read_peer = rig.ask("GET", "/cluster/hosts"), rig.leader.accept()
    batch, _ = rig.ask("POST", "/cluster/jobs", a_batch("j1")), rig.leader.accept()
    quick, quick_peer = rig.ask("GET", "/cluster/hosts"), rig.leader.accept()
    rig.change(record)
    quick_peer.send(OK)
    assert quick.answer().body == b"[]"
    rig.reactor.advance(CHANGE_WITHIN)
    assert_error(read.answer(), 503, "no_leader", retry=True)
    error = assert_error(batch.answer(), 504, "timeout", retry=True)
    assert error["detail"] == {"outcomes": {"j1": "unknown"}}
    assert dechunk(stream.received())[0] == b"event: error\ndata: host h1 leads no longer\n\n"
    assert stream_peer.closed and read_peer.aborted


def test_a_record_that_comes_back(rig: Rig) -> None:
    """A record that was gone for a moment changes nothing."""
    stream, peer = rig.begin_stream()
    rig.change(None)
    rig.change(H1)
    rig.reactor.advance(CHANGE_WITHIN)
    peer.send(chunk(b"data: 1\n\n"))
    assert stream.received() == chunk(b"data: 1\n\n")


# --- this host stops ----------------------------------------------------------


def test_this_host_stops(rig: Rig) -> None:
    """Streams of events are ended, and others have a while to come to their end."""
    stream, stream_peer = rig.begin_stream()
    middle, middle_peer = rig.begin_stream()
    middle_peer.send(chunk(b"data"))
    quick, quick_peer = rig.ask("GET", "/cluster/hosts"), rig.leader.accept()
    slow, slow_peer = rig.ask("GET", "/cluster/hosts"), rig.leader.accept()
    large, large_peer = rig.ask("GET", "/cluster/hosts"), rig.leader.accept()
    large_peer.send(OK[:-1])
    closed = rig.streams.close_all()
    assert_error(rig.got("/cluster/hosts"), 503, "not_ready", retry=True)
    assert stream.received() == b"0\r\n\r\n"
    assert middle.aborted
    quick_peer.send(OK)
    assert quick.answer().body == b"[]"
    rig.reactor.advance(CLOSE_WITHIN)
    assert_error(slow.answer(), 503, "not_ready", retry=True)
    assert large.aborted
    rig.reactor.pump([0] * 5)
    assert closed.called
    assert all(peer.closed for peer in (stream_peer, middle_peer, quick_peer, slow_peer, large_peer))
