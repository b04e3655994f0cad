"""Both clients get the same answers to all that can be asked, and the same errors."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from attrs import evolve
from twisted.internet.defer import Deferred, fail

from flynnhost.client import calls, errors, values
from flynnhost.client.answers import Answer, as_value
from flynnhost.client.calls import Call
from flynnhost.errors import NotReady, TookTooLong
from flynnhost.interfaces import Check
from flynnhost.model import Host
from tests.support.served_host import ServedHost, in_the_reactor, job

Ask = Callable[[Call[Any]], Awaitable[Any]]

JOB = values.Job(
    "made",
    artifact=values.Artifact("busybox"),
    config=values.Config(cmd=("true",), env={"A": "ä/b"}, ports=(values.Port(80, "tcp"),)),
    resources=values.Resources(memory=values.Quantity(limit=1 << 20)),
)


async def failure(asked: Awaitable[Any]) -> Any:
    with pytest.raises(errors.ClientError) as caught:
        await asked
    return caught.value


@in_the_reactor
async def test_jobs(ask: Ask, served: ServedHost) -> None:
    """A job that is run comes back as it was asked for."""
    made = await ask(calls.run_job(JOB))
    assert (made.id, made.status, made.host_id) == ("made", values.Status.STARTING, "h1")
    assert made.job.config == JOB.config
    assert made.job.resources == JOB.resources
    served.agent.run("made")
    await ask(calls.signal_job("made", 15))
    assert served.agent.signals == [("made", 15)]
    await ask(calls.stop_job("made"))
    ended = (await ask(calls.jobs()))["made"]
    assert (ended.ended, ended.exit_status) == (True, 143)
    assert values.known_time(ended.ended_at) is not None
    assert (await ask(calls.job_json("made")))["exit_status"] == 143


@in_the_reactor
async def test_cluster(ask: Ask, served: ServedHost) -> None:
    (placed,) = await ask(calls.commit_jobs({"h1": [JOB]}))
    assert (placed.id, placed.host_id, placed.state) == ("made", "h1", "starting")
    served.cluster.whole = False
    known = await ask(calls.hosts("ids"))
    assert not known.complete
    (host,) = known.hosts
    assert (host.id, host.addr) == ("h1", served.address.netloc)
    assert [each.id for each in host.jobs] == ["made"]
    assert (await ask(calls.hosts())).hosts[0].jobs is None


@in_the_reactor
async def test_host(ask: Ask, served: ServedHost) -> None:
    assert (await ask(calls.host_status()))["id"] == "h1"
    assert await ask(calls.health()) == {"status": "ok"}
    assert await ask(calls.readiness()) == values.Readiness(
        True, (values.Check("journal", True, "read"), values.Check("leader", True, "h1 leads"))
    )
    served.agent.checks = (Check("engine", ok=False, detail="gone"),)
    told = await ask(calls.readiness())
    assert (told.ready, told.checks[0]) == (False, values.Check("engine", False, "gone"))


@in_the_reactor
async def test_errors(ask: Ask, served: ServedHost) -> None:
    """There is a class for each thing that a caller can do about one, with all that the host says."""
    error = await failure(ask(calls.job("none")))
    assert type(error) is errors.NotFound
    assert (error.status, error.code, str(error)) == (404, "object_not_found", "no job none on this host")
    assert error.detail == {"job_id": "none"}
    error = await failure(ask(calls.run_job(values.Job("bad id"))))
    assert type(error) is errors.Invalid
    assert error.field == "id"
    served.add(job("made", "false"))
    assert type(await failure(ask(calls.run_job(JOB)))) is errors.Conflict
    served.agent.end("made", 0)
    assert type(await failure(ask(calls.signal_job("made", 9)))) is errors.Conflict
    served.cluster.leading = False
    error = await failure(ask(calls.leader()))
    assert type(error) is errors.Unavailable
    assert (error.code, error.retry, error.retry_after) == ("no_leader", True, 1.0)
    served.agent.hold = fail(NotReady("the disk is full"))
    assert str(await failure(ask(calls.run_job(JOB)))) == "the disk is full"
    served.agent.hold = fail(TookTooLong("too long", [("h1", "unknown")]))
    error = await failure(ask(calls.run_job(JOB)))
    assert type(error) is errors.Unknown
    assert error.detail == {"outcomes": {"h1": "unknown"}}


@in_the_reactor
async def test_ids_that_are_no_paths(ask: Ask, served: ServedHost) -> None:
    """Whatever stands for an ID, nothing else is asked for."""
    served.add(job("j1"))
    for odd in ("../jobs", "j1?x=1", "j1/log", "a b", "%2e%2e", "ä"):
        assert type(await failure(ask(calls.job(odd)))) in (errors.NotFound, errors.Invalid), odd


@in_the_reactor
async def test_deadline(ask: Ask, served: ServedHost) -> None:
    """A host that does not answer is not waited for."""
    served.agent.hold = Deferred()
    error = await failure(ask(evolve(calls.run_job(JOB), within=0.2)))
    assert type(error) is errors.NoAnswer
    served.agent.hold.callback(None)


@in_the_reactor
async def test_values_from_a_newer_host(ask: Ask, served: ServedHost) -> None:
    """Fields that are not known are passed over, also deep inside."""
    kind = as_value(values.ActiveJob)
    told = b'{"job": {"id": "j", "config": {"new": 1, "ports": [{"port": 1, "new": {}}]}}, "new": [1]}'
    read = kind(Answer("http://h", 200, told))
    assert read.id == "j"


@in_the_reactor
async def test_draining_host(ask: Ask, served: ServedHost) -> None:
    served.cluster.add_host(Host("h9", draining=True))
    assert [host.state for host in (await ask(calls.hosts())).hosts] == ["", "draining"]
