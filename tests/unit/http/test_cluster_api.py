"""The routes of the leader."""

from __future__ import annotations

import json
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from flynnhost.errors import InvalidField, NotReady, TookTooLong
from flynnhost.model import Artifact, Host, Job
from flynnhost.testing.agent import FakeCluster
from flynnhost.testing.http_connection import Answer, MemoryConnection
from tests.support.http_errors import assert_error

BUSYBOX = Artifact("busybox")


def posted(client: MemoryConnection, batch: Any, **headers: str) -> Answer:
    client.request("POST", "/cluster/jobs", json.dumps(batch).encode(), headers)
    return client.answer()


def got(client: MemoryConnection, path: str) -> Answer:
    client.request("GET", path)
    return client.answer()


def a_job(job_id: str) -> dict[str, Any]:
    return {"id": job_id, "artifact": {"url": "busybox", "type": "docker"}, "config": {}}


def test_hosts(client: MemoryConnection, cluster: FakeCluster) -> None:
    """Hosts are told with their jobs and what the operator says of them."""
    cluster.add_host(Host("h2", {}, (Job("j1", BUSYBOX),)))
    answer = got(client, "/cluster/hosts")
    assert answer.json == [{"id": "h1", "metadata": {"zone": "a"}}, {"id": "h2", "jobs": [a_job("j1")]}]
    assert answer.headers["x-cluster-complete"] == "true"


def test_no_hosts(client: MemoryConnection, cluster: FakeCluster) -> None:
    """No hosts are an empty list, which says whether it is to be believed."""
    cluster.remove_host("h1")
    cluster.whole = False
    answer = got(client, "/cluster/hosts")
    assert answer.body == b"[]"
    assert answer.headers["x-cluster-complete"] == "false"


def test_add_jobs(client: MemoryConnection, cluster: FakeCluster) -> None:
    """Flynn's answer is the whole cluster, also the hosts that were not asked for."""
    cluster.add_host(Host("h2"))
    answer = posted(client, {"h1": [a_job("b"), a_job("a")]})
    assert answer.status == 200
    assert answer.json == {
        "h1": {"id": "h1", "metadata": {"zone": "a"}, "jobs": [a_job("b"), a_job("a")]},
        "h2": {"id": "h2"},
    }
    assert "preference-applied" not in answer.headers


@pytest.mark.parametrize(
    "prefer", ["return=minimal", 'respond-async, Return="minimal"; x=y', "wait=5,return=minimal"]
)
def test_short_answer(client: MemoryConnection, cluster: FakeCluster, prefer: str) -> None:
    """Whoever prefers it gets only what became of the jobs, in their order."""
    cluster.add_host(Host("h2"))
    answer = posted(client, {"h2": [a_job("b"), a_job("a")], "h1": [a_job("c")]}, Prefer=prefer)
    assert answer.json == {
        "jobs": [
            {"id": "b", "host_id": "h2", "state": "starting"},
            {"id": "a", "host_id": "h2", "state": "starting"},
            {"id": "c", "host_id": "h1", "state": "starting"},
        ]
    }
    assert answer.headers["preference-applied"] == "return=minimal"


def test_other_preferences(client: MemoryConnection) -> None:
    """Any other preference changes nothing."""
    assert set(posted(client, {"h1": []}, Prefer="return=representation").json) == {"h1"}


def test_empty_batch(client: MemoryConnection) -> None:
    """Nothing to do is done."""
    assert posted(client, {}).status == 200


def test_refusals(client: MemoryConnection, cluster: FakeCluster) -> None:
    """What the cluster refuses names the job or host, and nothing of the batch is done."""
    posted(client, {"h1": [a_job("a")]})
    unknown = assert_error(
        posted(client, {"h1": [a_job("b")], "nope": [a_job("c")]}), 404, "object_not_found"
    )
    assert unknown["detail"] == {"host_id": "nope"}
    other = {**a_job("a"), "artifact": {"url": "other"}}
    conflict = assert_error(posted(client, {"h1": [a_job("b"), other]}), 409, "conflict")
    assert conflict["detail"] == {"job_id": "a"}
    invalid = assert_error(
        posted(client, {"h1": [a_job("b"), {**a_job("c"), "x": 1}]}), 400, "validation_error"
    )
    assert invalid["detail"] == {"field": "h1[1].x"}
    assert_error(posted(client, {"h1": None}), 400, "validation_error")
    assert [job.id for job in cluster.hosts()[0].jobs] == ["a"]


@pytest.mark.parametrize(
    ("error", "status", "code", "retry", "detail"),
    [
        (
            InvalidField("h1[0].config.uid", "is not for h1"),
            400,
            "validation_error",
            False,
            {"field": "h1[0].config.uid"},
        ),
        (NotReady("h1 is not connected"), 503, "not_ready", True, None),
        (
            TookTooLong("h1 did not answer", [("a", "unknown")]),
            504,
            "timeout",
            True,
            {"outcomes": {"a": "unknown"}},
        ),
        (TookTooLong("h1 did not answer"), 504, "timeout", True, None),
    ],
)
def test_failures(
    client: MemoryConnection,
    cluster: FakeCluster,
    error: Exception,
    status: int,
    code: str,
    retry: bool,
    detail: Any,
) -> None:
    """What the cluster could not do is told with what is known."""
    cluster.hold = Deferred()
    client.request("POST", "/cluster/jobs", json.dumps({"h1": [a_job("a")]}).encode())
    cluster.hold.errback(error)
    assert assert_error(client.answer(), status, code, retry).get("detail") == detail


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "/cluster/hosts", None),
        ("GET", "/cluster/leader", None),
        ("POST", "/cluster/jobs", b"{}"),
        ("GET", "/cluster/events", None),
    ],
)
def test_nobody_leads(
    client: MemoryConnection, cluster: FakeCluster, method: str, path: str, body: bytes | None
) -> None:
    """Without a leader, everything is to be tried again later."""
    cluster.leading = False
    client.request(method, path, body)
    assert_error(client.answer(), 503, "no_leader", retry=True)


def test_leader(client: MemoryConnection) -> None:
    """Who leads is told."""
    answer = got(client, "/cluster/leader")
    assert answer.headers["x-cluster-complete"] == "true"
    assert answer.json == {
        "id": "h1",
        "addr": "10.0.0.1:1113",
        "term": 7,
        "since": "2020-01-01T00:00:00Z",
    }


def test_a_client_that_leaves_undoes_nothing(client: MemoryConnection, cluster: FakeCluster) -> None:
    """A batch is committed when nobody waits for it any more."""
    hold: Deferred[None] = Deferred()
    cluster.hold = hold
    client.request("POST", "/cluster/jobs", json.dumps({"h1": [a_job("a")]}).encode())
    client.lose()
    hold.callback(None)
    assert [job.id for job in cluster.hosts()[0].jobs] == ["a"]


def test_large_batches_let_others_have_a_turn(
    clock: Clock, client: MemoryConnection, cluster: FakeCluster
) -> None:
    """A batch of many jobs is read in steps, and answered in slices."""
    client.request(
        "POST", "/cluster/jobs", json.dumps({"h1": [a_job(f"j{n}") for n in range(1000)]}).encode()
    )
    assert client.received() == b""
    assert cluster.hosts()[0].jobs == ()
    clock.pump([0] * 100)
    answer = client.answer()
    assert [job["id"] for job in answer.json["h1"]["jobs"]] == [f"j{n}" for n in range(1000)]
