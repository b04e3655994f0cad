"""Streams of events tell all, in order, also to those who come later or come back."""

from __future__ import annotations

import pytest

from tests.conftest import Engine
from tests.integration.conftest import StartHost
from tests.support.host_process import HostProcess
from tests.support.wire_jobs import shell_job, sleeper, wire_job

pytestmark = pytest.mark.docker


def test_order(host: HostProcess) -> None:
    """Each job's events come in the order of its life, on the stream of all and on its own."""
    done, crashed, failed = wire_job("true"), shell_job("exit 2"), wire_job("/no/such/program")
    with host.api.events() as events:
        host.api.run(done, crashed, failed)
        with host.api.events(crashed, snapshot="true") as own:
            for job, last in ((done, "stop"), (crashed, "stop"), (failed, "error")):
                events.wait_kind(job["id"], last)
            own.wait_kind(crashed["id"], "stop")
            assert {event.data["job_id"] for event in own.events if not event.name} == {crashed["id"]}
    assert events.kinds(done["id"]) == events.kinds(crashed["id"]) == ["create", "start", "stop"]
    assert events.kinds(failed["id"]) == ["create", "error"]
    assert [event.data["job"]["status"] for event in events.events if event.kind == "start"] == [1, 1]


def test_snapshot_then_changes(host: HostProcess) -> None:
    """A snapshot has what there is, once, then says that it is complete, then what changes follows."""
    running, ended = sleeper(stop_timeout=0), wire_job("true")
    host.api.run(running, ended)
    host.api.running(running)
    host.api.ended(ended)
    with host.api.events(snapshot="true") as events:
        current = events.wait(lambda event: event.name == "current", "the end of the snapshot")
        assert events.kinds(running["id"]) == ["start"]
        assert events.kinds(ended["id"]) == ["stop"]
        assert current.id
        host.api.stop(running)
        stop = events.wait_kind(running["id"], "stop")
        assert events.events.index(stop) > events.events.index(current)
    with host.api.events(last_id=current.id) as again:
        again.wait_kind(running["id"], "stop")
        assert [(event.id, event.kind) for event in again.events] == [(stop.id, "stop")]


def test_resume(host: HostProcess) -> None:
    """Who comes back with the ID of the last event gets what was missed, once."""
    first, second = wire_job("true"), wire_job("true")
    with host.api.events() as events:
        host.api.run(first)
        last = events.wait_kind(first["id"], "stop")
    host.api.run(second)
    host.api.ended(second)
    for reader in (host.api.events(last_id=last.id), host.api.events(since=last.id)):
        with reader:
            reader.wait_kind(second["id"], "stop")
            assert [event.kind for event in reader.events] == ["create", "start", "stop"]
            assert first["id"] not in {event.data["job_id"] for event in reader.events}


def test_resume_after_a_restart(make_host: StartHost, dockerd: Engine) -> None:
    """An ID of an earlier run is told that it means nothing any more, and the stream ends."""
    host = make_host(dockerd.url)
    host.start()
    job = wire_job("true")
    with host.api.events() as events:
        host.api.run(job)
        last = events.wait_kind(job["id"], "stop")
    host.kill9()
    host.start()
    with host.api.events(last_id=last.id) as again:
        again.wait_end()
        assert not again.broken
        (only,) = again.events
    assert only.name == "error"
    assert "resync" in only.text
    with host.api.events(snapshot="true") as anew:
        anew.wait(lambda event: event.name == "current", "the end of the snapshot")
        assert anew.kinds(job["id"]) == ["stop"]
