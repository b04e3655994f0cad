"""The routes of a host, its errors, and what a client that leaves can't undo."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.logger import capturedLogs

from flynnhost.errors import (
    BadSyntax,
    EngineUnavailable,
    FlynnHostError,
    InvalidField,
    JobConflict,
    JournalFailed,
    NotReady,
    StaleTerm,
    TookTooLong,
)
from flynnhost.http.site import APISite, build_site
from flynnhost.interfaces import Check
from flynnhost.model import Artifact, ContainerConfig, Job, Port
from flynnhost.testing.agent import FakeAgent, FakeCluster
from flynnhost.testing.http_connection import Answer, MemoryConnection
from tests.support.http_errors import assert_error

BUSYBOX = Artifact("busybox")
BODY = b'{"artifact":{"url":"busybox"}}'


def asked(
    client: MemoryConnection, method: str, path: str, body: bytes | None = None, **headers: str
) -> Answer:
    client.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
    return client.answer()


def test_no_jobs(client: MemoryConnection) -> None:
    """A host without jobs answers with an empty map."""
    answer = asked(client, "GET", "/host/jobs")
    assert (answer.status, answer.body) == (200, b"{}")
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["content-length"] == "2"
    assert "server" not in answer.headers


def test_a_jobs_life(client: MemoryConnection, agent: FakeAgent, clock: Clock) -> None:
    """A job is seen in each state as Flynn's clients expect it, on the same connection."""
    body = (
        b'{"id":"j1","artifact":{"url":"busybox"},"config":{"ports":[{"port":0,"proto":"tcp"},{"port":80}]}}'
    )
    started = asked(client, "PUT", "/host/jobs/j1", body)
    assert started.status == 200
    ports = [{"proto": "tcp"}, {"port": 80, "proto": "tcp"}]
    starting = {
        "job": {"id": "j1", "artifact": {"url": "busybox", "type": "docker"}, "config": {"ports": ports}},
        "host_id": "h1",
        "started_at": "0001-01-01T00:00:00Z",
        "ended_at": "0001-01-01T00:00:00Z",
        "phase": "accepted",
        "accepted_at": "2020-01-01T00:00:00Z",
    }
    assert started.json == starting
    assert asked(client, "GET", "/host/jobs/j1").json == starting
    assert asked(client, "GET", "/host/jobs").json == {"j1": starting}
    clock.advance(1)
    agent.run("j1", host_ports=(55000, 80))
    ports[0] = {"port": 55000, "proto": "tcp"}
    running = {**starting, "status": 1, "phase": "running", "started_at": "2020-01-01T00:00:01Z"}
    assert asked(client, "GET", "/host/jobs/j1").json == running
    clock.advance(1)
    stopped = asked(client, "DELETE", "/host/jobs/j1")
    assert (stopped.status, stopped.body, stopped.headers["content-length"]) == (200, b"", "0")
    assert asked(client, "GET", "/host/jobs/j1").json == {
        **running,
        "status": 3,
        "phase": "ended",
        "ended_at": "2020-01-01T00:00:02Z",
        "exit_status": 143,
    }


def test_what_else_is_told_of_a_job(client: MemoryConnection, agent: FakeAgent) -> None:
    """What is not empty is there: container, address, error, OOM."""
    agent.accept([Job("j1", BUSYBOX)], 0)
    agent.end("j1", 0)
    told = asked(client, "GET", "/host/jobs/j1").json
    assert told["status"] == 2
    assert not {"exit_status", "error", "oom_killed", "detail", "force_stop", "container_id"} & set(told)
    agent.fail("j1", "no such image")
    told = asked(client, "GET", "/host/jobs/j1").json
    assert (told["status"], told["error"]) == (4, "no such image")


def test_same_job_again(client: MemoryConnection) -> None:
    """The same content again is the same job; other content is a conflict."""
    assert asked(client, "PUT", "/host/jobs/j1", BODY).status == 200
    assert asked(client, "PUT", "/host/jobs/j1", BODY).status == 200
    error = assert_error(
        asked(client, "PUT", "/host/jobs/j1", b'{"artifact":{"url":"other"}}'), 409, "conflict"
    )
    assert error["detail"] == {"job_id": "j1"}


def test_signal(client: MemoryConnection, agent: FakeAgent) -> None:
    """A signal is passed on, and answered with nothing."""
    agent.accept([Job("j1", BUSYBOX)], 0)
    assert_error(asked(client, "PUT", "/host/jobs/j1/signal/15", b""), 409, "conflict")
    agent.run("j1")
    answer = asked(client, "PUT", "/host/jobs/j1/signal/15", b"")
    assert (answer.status, answer.body, answer.headers["content-length"]) == (200, b"", "0")
    assert asked(client, "PUT", "/host/jobs/j1/signal/9").status == 200
    assert agent.signals == [("j1", 15), ("j1", 9)]


@pytest.mark.parametrize("signal", ["0", "65", "-1", "TERM", "1.0", "%D9%A3", "9" * 5000])
def test_no_signal(client: MemoryConnection, agent: FakeAgent, signal: str) -> None:
    """What is no signal is refused, also when there is no such job."""
    error = assert_error(asked(client, "PUT", f"/host/jobs/j1/signal/{signal}"), 400, "validation_error")
    assert error["detail"] == {"field": "sig"}


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/host/jobs/nope"),
        ("DELETE", "/host/jobs/nope"),
        ("PUT", "/host/jobs/nope/signal/9"),
        ("GET", "/host/jobs/nope/log"),
    ],
)
def test_unknown_job(client: MemoryConnection, method: str, path: str) -> None:
    """A job that is not there is an object that was not found."""
    error = assert_error(asked(client, method, path), 404, "object_not_found")
    assert error["detail"] == {"job_id": "nope"}


def test_unknown_job_of_a_stream(client: MemoryConnection) -> None:
    """So it is for one who wants its events."""
    assert_error(asked(client, "GET", "/host/jobs/nope", Accept="text/event-stream"), 404, "object_not_found")


def test_ended_job(client: MemoryConnection, agent: FakeAgent) -> None:
    """What has ended can't be stopped or signalled."""
    agent.accept([Job("j1", BUSYBOX)], 0)
    agent.end("j1", 0)
    assert_error(asked(client, "DELETE", "/host/jobs/j1"), 409, "conflict")
    assert_error(asked(client, "PUT", "/host/jobs/j1/signal/9"), 409, "conflict")


def test_status(client: MemoryConnection) -> None:
    """A host says how it is."""
    assert asked(client, "GET", "/host/status").json == {"id": "h1", "jobs": 0}


def test_status_with_facts(clock: Clock, agent: FakeAgent, cluster: FakeCluster) -> None:
    """With what else is known of it; a client that is gone before disturbs nobody."""
    told: list[Deferred[Mapping[str, Any]]] = []

    def facts() -> Deferred[Mapping[str, Any]]:
        told.append(Deferred(lambda _: None))
        return told[-1]

    site, _ = build_site(clock, agent, cluster, facts=facts)
    gone, client = (MemoryConnection(clock, site) for _ in range(2))
    for each in (gone, client):
        each.request("GET", "/host/status")
    gone.lose()
    told[1].callback({"solo": True})
    assert client.answer().json == {"id": "h1", "jobs": 0, "solo": True}


def test_attributes(client: MemoryConnection, agent: FakeAgent) -> None:
    """What is said of a host is told, changed and removed, whatever its name."""
    assert asked(client, "GET", "/host/attributes").json == {}
    for path, name in [("zone", "zone"), ("a%2Fb/c", "a/b/c"), ("%C3%A4%20", "ä "), ("x=", "x=")]:
        for value in ("1", "ü \n", ""):
            body = json.dumps({"value": value}).encode()
            answer = asked(client, "PUT", f"/host/attributes/{path}", body)
            assert (answer.status, answer.body, answer.headers["content-length"]) == (200, b"", "0")
            assert agent.attributes[name] == value
    assert asked(client, "GET", "/host/attributes").json == {"zone": "", "a/b/c": "", "ä ": "", "x=": ""}
    for path in ("zone", "a/b%2Fc", "%C3%A4%20"):
        answer = asked(client, "DELETE", f"/host/attributes/{path}")
        assert (answer.status, answer.body) == (200, b"")
    assert agent.attributes == {"x=": ""}


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (b"{}", "body"),
        (b'{"value":1}', "value"),
        (b'{"value":null}', "value"),
        (b'{"value":"a","more":1}', "more"),
        (b'"a"', "body"),
        (b'{"value":"\\u0000"}', "value"),
    ],
)
def test_bad_attribute(client: MemoryConnection, agent: FakeAgent, body: bytes, field: str) -> None:
    """A body that says no value changes nothing."""
    error = assert_error(asked(client, "PUT", "/host/attributes/zone", body), 400, "validation_error")
    assert error["detail"] == {"field": field}
    assert agent.attributes == {}


def test_bad_attribute_name(client: MemoryConnection) -> None:
    """So it is with a name that can't be; one that is not there can't be removed."""
    answer = asked(client, "PUT", f"/host/attributes/{'x' * 251}", b'{"value":""}')
    assert assert_error(answer, 400, "validation_error")["detail"] == {"field": "name"}
    unknown = asked(client, "DELETE", "/host/attributes/zone")
    assert assert_error(unknown, 404, "object_not_found")["detail"] == {"attribute": "zone"}
    assert_error(asked(client, "PUT", "/host/attributes/zone", b""), 400, "syntax_error")
    text = asked(client, "PUT", "/host/attributes/zone", b'{"value":""}', Content_Type="text/plain")
    assert_error(text, 415, "unsupported_media_type")


@pytest.mark.parametrize(
    "path", ["/", "/nope", "/host", "/host/", "/host/nope", "/host/jobs/a/b/c", "/host/jobs/a%2Fb/c"]
)
@pytest.mark.parametrize("method", ["GET", "POST", "BREW"])
def test_unknown_path(client: MemoryConnection, path: str, method: str) -> None:
    """A path that is nobody's is answered in JSON too."""
    assert_error(asked(client, method, path), 404, "not_found")


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("POST", "/host/jobs", {"GET", "HEAD"}),
        ("POST", "/host/jobs/j1", {"GET", "HEAD", "PUT", "DELETE"}),
        ("BREW", "/host/status", {"GET", "HEAD"}),
        ("DELETE", "/host/attributes", {"GET", "HEAD"}),
        ("GET", "/host/attributes/zone", {"PUT", "DELETE"}),
        ("GET", "/host/jobs/j1/signal/9", {"PUT"}),
        ("OPTIONS", "/health", {"GET", "HEAD"}),
        ("PUT", "/cluster/jobs", {"POST"}),
    ],
)
def test_unknown_method(client: MemoryConnection, method: str, path: str, allowed: set[str]) -> None:
    """A method that a path does not have is refused with those that it has."""
    answer = asked(client, method, path)
    assert_error(answer, 405, "method_not_allowed")
    assert set(answer.headers["allow"].split(", ")) == allowed


def test_no_redirects(client: MemoryConnection) -> None:
    """A slash too many is no redirect, which Flynn's clients would not understand."""
    assert asked(client, "GET", "/host/jobs/").status == 200
    assert_error(asked(client, "GET", "/host/jobs//j1"), 404, "not_found")


@pytest.mark.parametrize(
    ("path", "host", "field"),
    [
        ("/%ff", "h", "path"),
        ("/host/jobs/%ff", "h", "path"),
        ("/host/jobs", "\xff", "Host"),
        ("/x", "a" * 80 + ".b", "Host"),
    ],
)
def test_unreadable_url(client: MemoryConnection, path: str, host: str, field: str) -> None:
    """What the routing can't read is refused, and not logged as a failure of ours."""
    error = assert_error(asked(client, "GET", path, Host=host), 400, "validation_error")
    assert error["detail"] == {"field": field}


@pytest.mark.parametrize(
    "content_type", ["text/plain", "", "application/x-www-form-urlencoded", "application/jsonx", "\xff"]
)
def test_unsupported_media_type(client: MemoryConnection, content_type: str) -> None:
    """A body that does not call itself JSON is not read."""
    answer = asked(client, "PUT", "/host/jobs/j1", BODY, Content_Type=content_type)
    assert_error(answer, 415, "unsupported_media_type")


@pytest.mark.parametrize(
    "content_type", ["application/json; charset=utf-8", "Application/JSON", "application/json;x=y"]
)
def test_media_type_with_parameters(client: MemoryConnection, content_type: str) -> None:
    """JSON is JSON with parameters and in any case."""
    assert asked(client, "PUT", "/host/jobs/j1", BODY, Content_Type=content_type).status == 200


@pytest.mark.parametrize(
    "accept", ["", "*/*", "application/*", "text/html, application/json;q=0.5", "APPLICATION/json"]
)
def test_acceptable(client: MemoryConnection, accept: str) -> None:
    """Whoever takes JSON among others gets it."""
    assert asked(client, "GET", "/host/jobs", Accept=accept).status == 200


@pytest.mark.parametrize(
    "accept", ["text/html", "application/json;q=0", "text/*", "application/json; Q=0.000", "\xff"]
)
def test_not_acceptable(client: MemoryConnection, accept: str) -> None:
    """Whoever takes none of what a path has is told, before anything is done."""
    assert_error(asked(client, "PUT", "/host/jobs/j1", BODY, Accept=accept), 406, "not_acceptable")
    assert asked(client, "GET", "/host/jobs").json == {}


@pytest.mark.parametrize("body", [b"", b"{", b"\xff", b"[" * 100_000])
def test_bad_syntax(client: MemoryConnection, body: bytes) -> None:
    """What is no JSON is a syntax error."""
    assert_error(asked(client, "PUT", "/host/jobs/j1", body), 400, "syntax_error")


def test_bad_field(client: MemoryConnection) -> None:
    """The message begins with the field, and the detail has it by itself."""
    body = b'{"artifact":{"url":"busybox"},"config":{"ports":[{"proto":"x"}]}}'
    error = assert_error(asked(client, "PUT", "/host/jobs/j1", body), 400, "validation_error")
    assert error["message"] == "config.ports[0].proto must be tcp or udp, not 'x'"
    assert error["detail"] == {"field": "config.ports[0].proto"}


def test_bad_id_in_the_url(client: MemoryConnection) -> None:
    """The ID in the URL must be one, and the body must not have another."""
    assert_error(asked(client, "PUT", "/host/jobs/-j", BODY), 400, "validation_error")
    error = assert_error(
        asked(client, "PUT", "/host/jobs/j1", b'{"id":"j2","artifact":{"url":"a"}}'), 400, "validation_error"
    )
    assert error["detail"] == {"field": "id"}


@pytest.mark.parametrize(
    ("error", "status", "code", "retry"),
    [
        (InvalidField("[0].config.uid", "is not for this host"), 400, "validation_error", False),
        (BadSyntax("is odd"), 400, "syntax_error", False),
        (JobConflict("j1", "is there"), 409, "conflict", False),
        (StaleTerm(1, 2), 409, "conflict", False),
        (NotReady("the journal is being read"), 503, "not_ready", True),
        (JournalFailed("disk full"), 503, "not_ready", True),
        (EngineUnavailable("gone"), 503, "not_ready", True),
        (TookTooLong("no answer within 10 s", [("h1", "unknown")]), 504, "timeout", True),
    ],
)
def test_errors_of_the_domain(
    client: MemoryConnection, agent: FakeAgent, error: FlynnHostError, status: int, code: str, retry: bool
) -> None:
    """What a host can't do is told with the status of its kind."""
    agent.hold = Deferred()
    client.request("PUT", "/host/jobs/j1", BODY)
    assert client.received() == b""
    agent.hold.errback(error)
    told = assert_error(client.answer(), status, code, retry)
    if isinstance(error, InvalidField):
        assert told["detail"] == {"field": "config.uid"}
    if isinstance(error, TookTooLong):
        assert told["detail"] == {"outcomes": {"h1": "unknown"}}


def test_not_ready(client: MemoryConnection, agent: FakeAgent) -> None:
    """A host that does not know its jobs yet does not say that it has none."""
    agent.ready = False
    for path in ("/host/jobs", "/host/jobs/j1", "/host/status"):
        assert_error(asked(client, "GET", path), 503, "not_ready", retry=True)
    assert_error(
        asked(client, "GET", "/host/jobs?snapshot=1", Accept="text/event-stream"),
        503,
        "not_ready",
        retry=True,
    )


def test_incident(client: MemoryConnection, agent: FakeAgent, logged_failures: Any) -> None:
    """A failure of ours says nothing but an ID, which the log has too."""
    agent.hold = Deferred()
    client.request("PUT", "/host/jobs/j1", BODY)
    with capturedLogs() as events:
        agent.hold.errback(ZeroDivisionError("secret"))
    error = assert_error(client.answer(), 500, "unknown_error")
    assert error["message"] == "Something went wrong"
    (event,) = (event for event in events if "log_failure" in event)
    assert event["incident"] == error["detail"]["incident"]
    logged_failures.flush(ZeroDivisionError)
    assert asked(client, "GET", "/health").status == 200


def test_a_client_that_leaves_undoes_nothing(client: MemoryConnection, agent: FakeAgent) -> None:
    """A change goes on when nobody waits for it any more."""
    hold: Deferred[None] = Deferred()
    agent.hold = hold
    client.request("PUT", "/host/jobs/j1", BODY)
    client.lose()
    assert not hold.called
    hold.callback(None)
    assert list(agent.jobs()) == ["j1"]


def test_head(client: MemoryConnection, agent: FakeAgent) -> None:
    """HEAD has the headers of GET, and no body."""
    agent.accept([Job("j1", BUSYBOX)], 0)
    for path in ("/host/jobs", "/host/jobs/j1", "/health", "/cluster/hosts"):
        length = asked(client, "GET", path).headers["content-length"]
        answer = asked(client, "HEAD", path)
        assert (answer.status, answer.body, answer.headers["content-length"]) == (200, b"", length)
    assert asked(client, "HEAD", "/nope").status == 404


def test_http_1_0(client: MemoryConnection) -> None:
    """An old client gets its answer, and the end of the connection."""
    client.request("GET", "/health", version="HTTP/1.0")
    assert client.answer().body == b'{"status":"ok"}'
    assert client.closed


def test_many_jobs_are_told_in_slices(clock: Clock, site: APISite, agent: FakeAgent) -> None:
    """A large answer waits for its reader, and lets others have their turn."""
    jobs = [Job(f"j{n:04}", BUSYBOX, ContainerConfig(env={"A": "x" * 1000})) for n in range(1000)]
    agent.accept(jobs, 0)
    client = MemoryConnection(clock, site, window=100_000)
    client.request("GET", "/host/jobs")
    clock.pump([0] * 100)
    data = client.received()
    assert 100_000 < len(data) < 200_000
    for _ in range(100):
        clock.pump([0] * 10)
        data += client.received()
    assert data.endswith(b"0\r\n\r\n")
    again = MemoryConnection(clock, site)
    again.request("GET", "/host/jobs")
    clock.pump([0] * 100)
    answer = again.answer()
    assert list(answer.json) == [job.id for job in jobs]
    assert len(data) == pytest.approx(len(answer.body), rel=0.01)


def test_a_reader_that_stalls_is_given_up(clock: Clock, site: APISite, agent: FakeAgent) -> None:
    """Nobody keeps a half-written answer for good."""
    agent.accept([Job(f"j{n}", BUSYBOX, ContainerConfig(env={"A": "x" * 1000})) for n in range(1000)], 0)
    client = MemoryConnection(clock, site, window=100_000)
    client.request("GET", "/host/jobs")
    clock.pump([1] * 59)
    assert not client.aborted
    clock.pump([1] * 3)
    assert client.aborted


def test_large_answer_on_a_kept_connection(client: MemoryConnection, clock: Clock, agent: FakeAgent) -> None:
    """After a sliced answer, the connection goes on."""
    agent.accept([Job(f"j{n}", BUSYBOX, ContainerConfig(env={"A": "x" * 1000})) for n in range(300)], 0)
    client.request("GET", "/host/jobs")
    clock.pump([0] * 30)
    assert len(client.answer().json) == 300
    assert asked(client, "GET", "/health").status == 200


def test_ready_only_with_a_leader(client: MemoryConnection, cluster: FakeCluster) -> None:
    """A host is not ready while nobody takes jobs for the cluster."""
    cluster.leading = False
    error = assert_error(asked(client, "GET", "/ready"), 503, "not_ready", retry=True)
    assert error["message"] == "not ready: leader"


def test_ready(client: MemoryConnection, agent: FakeAgent) -> None:
    """Ready is a list of checks that pass; not ready is an error with the same list."""
    assert asked(client, "GET", "/ready").json == [
        {"name": "journal", "ok": True, "detail": "read"},
        {"name": "leader", "ok": True, "detail": "h1 leads"},
    ]
    agent.checks = (*agent.checks, Check("docker", ok=False, detail="does not answer"))
    error = assert_error(asked(client, "GET", "/ready"), 503, "not_ready", retry=True)
    assert error["detail"][1] == {"name": "docker", "ok": False, "detail": "does not answer"}
    assert "docker" in error["message"]


def test_like_flynns_client(client: MemoryConnection) -> None:
    """What Flynn's Go clients send, with all that Go's encoder puts in."""
    body = json.dumps(
        {
            "id": "4f1c",
            "artifact": {
                "url": "https://registry.hub.docker.com?name=flynn/x&id=" + "a" * 64,
                "type": "docker",
            },
            "config": {"cmd": ["x"], "env": None, "mounts": None, "ports": [{"port": 0, "proto": "tcp"}]},
        }
    ).encode()
    answer = asked(
        client, "PUT", "/host/jobs/4f1c", body, Accept_Encoding="gzip", User_Agent="Go-http-client/1.1"
    )
    assert answer.status == 200
    assert "content-encoding" not in answer.headers


def test_ports_that_are_not_leased_yet(client: MemoryConnection, agent: FakeAgent) -> None:
    """Until a port is leased, the job is told as it was asked for."""
    agent.accept([Job("j1", BUSYBOX, ContainerConfig(ports=(Port(0, "udp"), Port(7))))], 0)
    assert asked(client, "GET", "/host/jobs/j1").json["job"]["config"]["ports"] == [
        {"proto": "udp"},
        {"port": 7, "proto": "tcp"},
    ]
