"""Hosts that register in Flynn's way, and what is asked of single hosts, with a real leader."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from attrs import define, field
from twisted.internet.defer import fail
from twisted.internet.task import Clock
from zope.interface.verify import verifyObject

from flynnhost.cluster.leader import Leader
from flynnhost.cluster.local import LocalHost
from flynnhost.cluster.role import LeaderRole, Leading
from flynnhost.errors import JournalFailed
from flynnhost.http import host_registration
from flynnhost.http.open_streams import OpenStreams
from flynnhost.http.outflow import FLUSH_WITHIN
from flynnhost.http.site import APISite, build_site
from flynnhost.http.sse import KEEP_ALIVE_AFTER
from flynnhost.interfaces import IClusterHosts
from flynnhost.testing.agent import FakeAgent
from flynnhost.testing.http_connection import Answer, MemoryConnection, dechunk
from tests.support.http_errors import assert_error


def a_job(job_id: str) -> dict[str, Any]:
    return {"id": job_id, "artifact": {"url": "busybox", "type": "docker"}, "config": {}}


@define(eq=False)
class Rig:
    """A leader behind its API."""

    clock: Clock = field(factory=Clock)
    role: LeaderRole = field(init=False)
    site: APISite = field(init=False)
    streams: OpenStreams = field(init=False)

    def __attrs_post_init__(self) -> None:
        def leading(term: int) -> Leading:
            now = datetime(2020, 1, 1, tzinfo=UTC)
            leader = Leader(self.clock, lambda: now, term, "h1", "10.0.0.1:1113")
            return Leading(leader, leader)

        self.role = LeaderRole(leading)
        self.role.startService()
        self.role.elected(7)
        self.site, self.streams = build_site(self.clock, FakeAgent(self.clock), self.role)

    def connect(self, window: int = 1 << 62) -> MemoryConnection:
        return MemoryConnection(self.clock, self.site, window)

    def ask(self, method: str, path: str, body: Any = None) -> Answer:
        client = self.connect()
        client.request(method, path, None if body is None else json.dumps(body).encode())
        return client.answer()

    def register(self, host: Any, window: int = 1 << 62) -> MemoryConnection:
        client = self.connect(window)
        client.request("PUT", f"/cluster/hosts/{host['id']}", json.dumps(host).encode())
        return client

    def hosts(self, query: str = "") -> Any:
        return self.ask("GET", f"/cluster/hosts{query}").json


@pytest.fixture
def rig() -> Rig:
    return Rig()


def stream(client: MemoryConnection) -> bytes:
    """What came of the body."""
    data = client.received()
    head, _, rest = data.partition(b"\r\n\r\n")
    return dechunk(rest if head.startswith(b"HTTP") else data)[0]


def test_interface(rig: Rig) -> None:
    """The role and its leader have all that the interface names."""
    assert verifyObject(IClusterHosts, rig.role)


# --- Flynn's way to register --------------------------------------------------


def test_registers(rig: Rig) -> None:
    """The answer begins at once, and is a stream whatever the host says that it takes."""
    client = rig.register({"id": "f1", "metadata": {"a": "b"}, "jobs": [a_job("x")]})
    head = client.received()
    assert head.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"Content-Type: text/event-stream; charset=utf-8\r\n" in head
    assert b"Transfer-Encoding: chunked\r\n" in head
    assert rig.hosts() == [{"id": "f1", "metadata": {"a": "b"}, "jobs": [a_job("x")]}]


def test_gets_jobs(rig: Rig) -> None:
    """Each job is an event of one line, to the byte as Flynn's client reads it."""
    client = rig.register({"id": "f1"})
    client.received()
    answer = rig.ask("POST", "/cluster/jobs", {"f1": [a_job("a"), a_job("b")]})
    assert answer.status == 200
    job = '{"id":"%s","artifact":{"url":"busybox","type":"docker"},"config":{}}'
    assert stream(client) == f"data: {job % 'a'}\n\ndata: {job % 'b'}\n\n".encode()
    rig.clock.advance(KEEP_ALIVE_AFTER)
    assert stream(client) == b":\n"
    rig.clock.advance(KEEP_ALIVE_AFTER)
    assert stream(client) == b":\n"


def test_leaves(rig: Rig) -> None:
    """With its stream the host is gone, and can come again."""
    client = rig.register({"id": "f1"})
    assert_error(rig.ask("PUT", "/cluster/hosts/f1", {"id": "f1"}), 409, "conflict")
    client.lose()
    assert rig.hosts() == []
    rig.register({"id": "f1"})
    assert rig.hosts() == [{"id": "f1"}]
    assert len(rig.streams) == 1


def test_host_stops(rig: Rig) -> None:
    """When the leader's process stops the stream ends properly."""
    client = rig.register({"id": "f1"})
    rig.streams.close_all()
    assert client.received().endswith(b"0\r\n\r\n")
    assert rig.hosts() == []
    assert_error(rig.ask("PUT", "/cluster/hosts/f1", {"id": "f1"}), 503, "not_ready", retry=True)


@pytest.mark.parametrize(
    ("path", "body", "code", "field"),
    [
        ("f1", {"id": "f2"}, "validation_error", "id"),
        ("f1", {"id": ""}, "validation_error", "id"),
        ("f1", {}, "validation_error", "id"),
        ("", {"id": ""}, "validation_error", "id"),
        ("a-b", {"id": "a-b"}, "validation_error", "id"),
        ("f1", {"id": "f1", "x": 1}, "validation_error", "x"),
        ("f1", {"id": "f1", "metadata": {"a": 1}}, "validation_error", "metadata.a"),
        ("f1", {"id": "f1", "jobs": [a_job("a"), {"id": "b"}]}, "validation_error", "jobs[1].artifact.url"),
        ("f1", None, "syntax_error", None),
    ],
)
def test_not_a_host(rig: Rig, path: str, body: Any, code: str, field: str | None) -> None:
    """What is no host is refused, naming the field."""
    error = assert_error(rig.ask("PUT", f"/cluster/hosts/{path}", body), 400, code)
    assert error.get("detail") == (None if field is None else {"field": field})
    assert rig.hosts() == []


def test_falls_behind(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """A host that does not read is cut off, and the batch that it was too much for is not done."""
    monkeypatch.setattr(host_registration, "BACKLOG_EVENTS", 2)
    client = rig.register({"id": "f1"}, window=10)
    for number in range(3):
        assert rig.ask("POST", "/cluster/jobs", {"f1": [a_job(f"j{number}")]}).status == 200
    assert_error(rig.ask("POST", "/cluster/jobs", {"f1": [a_job("x")]}), 503, "not_ready", retry=True)
    assert_error(rig.ask("POST", "/cluster/jobs", {"f1": [a_job("x")]}), 503, "not_ready", retry=True)
    assert b"event: error\ndata: fell behind\n\n" in client.received()
    rig.clock.advance(FLUSH_WITHIN)
    assert rig.hosts() == []


# --- single hosts and jobs ----------------------------------------------------


def test_one_host(rig: Rig) -> None:
    """One host is told alone."""
    rig.register({"id": "f1", "jobs": [a_job("x")]})
    rig.register({"id": "f2"})
    answer = rig.ask("GET", "/cluster/hosts/f1")
    assert answer.json == {"id": "f1", "jobs": [a_job("x")]}
    assert answer.headers["x-cluster-complete"] == "true"
    error = assert_error(rig.ask("GET", "/cluster/hosts/nope"), 404, "object_not_found")
    assert error["detail"] == {"host_id": "nope"}


@pytest.mark.parametrize("path", ["/cluster/hosts/f1", "/cluster/hosts"])
def test_jobs_wanted(rig: Rig, path: str) -> None:
    """Jobs are told in full, by their IDs only, or not at all."""
    rig.register({"id": "f1", "jobs": [a_job(f"j{number}") for number in range(40)]})

    def told(jobs: str) -> Any:
        answer = rig.ask("GET", f"{path}?jobs={jobs}").json
        return answer if isinstance(answer, dict) else answer[0]

    assert told("full") == {"id": "f1", "jobs": [a_job(f"j{number}") for number in range(40)]}
    assert told("ids") == {"id": "f1", "jobs": [{"id": f"j{number}"} for number in range(40)]}
    assert told("none") == {"id": "f1"}
    assert_error(rig.ask("GET", f"{path}?jobs=some"), 400, "validation_error")


def test_remove_job(rig: Rig) -> None:
    """A job is taken out of the list, also one that is not there."""
    rig.register({"id": "f1", "jobs": [a_job("x"), a_job("y")]})
    for path in ("f1/jobs/x", "f1/jobs/x", "nope/jobs/x"):
        answer = rig.ask("DELETE", f"/cluster/hosts/{path}")
        assert (answer.status, answer.body, answer.headers["content-length"]) == (200, b"", "0")
    assert rig.hosts() == [{"id": "f1", "jobs": [a_job("y")]}]


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "/cluster/hosts/h1", None),
        ("PUT", "/cluster/hosts/h1", {"id": "h1"}),
        ("DELETE", "/cluster/hosts/h1/jobs/j", None),
    ],
)
def test_nobody_leads(rig: Rig, method: str, path: str, body: Any) -> None:
    """Without a leader, everything is to be tried again later."""
    rig.role.deposed()
    assert_error(rig.ask(method, path, body), 503, "no_leader", retry=True)


def test_down(rig: Rig) -> None:
    """A host that is lost says so, and jobs for it are refused, naming it and the job."""
    leader = rig.role._core.cluster
    assert isinstance(leader, Leader)
    client = rig.register({"id": "f1", "jobs": [a_job("x")]})
    leader._membership.lost("f1", leader._membership.link("f1", ["x"]))
    assert rig.hosts() == [{"id": "f1", "state": "down", "jobs": [a_job("x")]}]
    error = assert_error(rig.ask("POST", "/cluster/jobs", {"f1": [a_job("y")]}), 409, "conflict")
    assert error["detail"] == {"host_id": "f1", "job_id": "y"}
    client.lose()


# --- draining -----------------------------------------------------------------


@pytest.fixture
def agent(rig: Rig) -> FakeAgent:
    """The agent of a host of the cluster."""
    agent = FakeAgent(rig.clock, "h1", resources={"memory": 1024, "cpu": 2000})
    leader = rig.role._core.cluster
    assert isinstance(leader, Leader)
    LocalHost(agent, leader).startService()
    return agent


def test_drains(rig: Rig, agent: FakeAgent) -> None:
    """An operator says whether a host drains; it is shown, with what the host has, and jobs are refused."""
    host = {"id": "h1", "resources": {"memory": 1024, "cpu": 2000}, "addr": "10.0.0.1:1113"}
    assert rig.hosts() == [host]
    for _ in range(2):
        answer = rig.ask("PUT", "/cluster/hosts/h1/drain", {"draining": True})
        assert (answer.status, answer.body) == (200, b"")
    assert agent.draining
    assert rig.hosts() == [{**host, "state": "draining"}]
    refused = rig.ask("POST", "/cluster/jobs", {"h1": [a_job("a")]})
    assert_error(refused, 409, "conflict")
    assert refused.json["message"] == "host h1 can't take job a: it is draining"
    assert rig.ask("PUT", "/cluster/hosts/h1/drain", {"draining": False}).status == 200
    assert rig.hosts() == [host]
    assert rig.ask("POST", "/cluster/jobs", {"h1": [a_job("a")]}).status == 200


@pytest.mark.parametrize(
    ("host_id", "body", "status", "code"),
    [
        ("h1", {}, 400, "validation_error"),
        ("h1", {"draining": 1}, 400, "validation_error"),
        ("h1", {"draining": True, "more": 1}, 400, "validation_error"),
        ("h2", {"draining": True}, 404, "object_not_found"),
    ],
)
def test_can_not_drain(rig: Rig, agent: FakeAgent, host_id: str, body: Any, status: int, code: str) -> None:
    """What does not say whether, or of which host, changes nothing."""
    assert_error(rig.ask("PUT", f"/cluster/hosts/{host_id}/drain", body), status, code)
    assert not agent.draining


def test_disk_is_full(rig: Rig, agent: FakeAgent) -> None:
    """A host that can't remember it does not drain."""
    agent.hold = fail(JournalFailed("full"))
    assert rig.ask("PUT", "/cluster/hosts/h1/drain", {"draining": True}).status == 503
    assert rig.hosts()[0].get("state") is None
