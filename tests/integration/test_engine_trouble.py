"""Jobs and what is known of them survive the engine's end, its silence, and the loss of its events."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from flynnhost.model import JobStatus
from tests.conftest import Engine
from tests.integration.conftest import StartHost
from tests.support.dockerd import Dockerd
from tests.support.engine_relay import EngineRelay
from tests.support.host_api import WireJob, status
from tests.support.host_containers import HostContainers
from tests.support.host_process import HostProcess
from tests.support.waiting import wait_until
from tests.support.wire_jobs import sleeper, starts, tracing, wire_job

pytestmark = [pytest.mark.docker, pytest.mark.timeout(240)]

ENDS = "while [ ! -e /trace/go ]; do sleep 0.1; done; exit 5"
"""The script of a job that ends when a file is made."""


@pytest.fixture(scope="module")
def engine(own_dockerd: Callable[..., Dockerd]) -> Dockerd:
    return own_dockerd()


@pytest.fixture(scope="module")
def live_engine(own_dockerd: Callable[..., Dockerd]) -> Dockerd:
    return own_dockerd("--live-restore")


def not_ready(host: HostProcess, within: float = 30.0) -> str:
    """Wait until a host says that it is not ready. Gives what is wrong with the engine."""

    def look() -> str:
        answer = host.api.get("/ready")
        if answer.status == 200:
            return ""
        assert (answer.status, answer.json["code"], answer.json["retry"]) == (503, "not_ready", True)
        return next(str(c["detail"]) for c in answer.json["detail"] if c["name"] == "engine" and not c["ok"])

    return wait_until(look, "the host to say that it is not ready", within)


@pytest.mark.parametrize("end", [Dockerd.stop, Dockerd.kill])
def test_an_engine_that_takes_its_jobs_with_it(
    end: Callable[[Dockerd], None], make_host: StartHost, engine: Dockerd, tmp_path: Path
) -> None:
    """Jobs that ended with the engine have crashed, once; those that it was to start, it starts later."""
    traces = tmp_path / "traces"
    host = make_host(engine.url)
    host.start()
    job, done = tracing(traces, "exec sleep 3600"), wire_job("true")
    host.api.run(job, done)
    host.api.running(job)
    before = host.api.ended(done)
    with host.api.events() as events:
        end(engine)
        not_ready(host)
        later = tracing(traces, "exec sleep 3600")
        host.api.run(later)  # it is on disk; nobody needs the engine for that
        assert status(host.api.job(later)) is JobStatus.STARTING
        engine.start()
        host.wait_ready()
        active = host.api.ended(job)
        host.api.running(later)
        events.wait_kind(job["id"], "stop")
        assert events.kinds(job["id"]) == ["stop"]
        assert events.kinds(later["id"]) == ["create", "start"]
    assert (status(active), active["exit_status"]) == (JobStatus.CRASHED, 137)
    assert host.api.job(done) == before
    assert starts(traces, job) == starts(traces, later) == 1
    HostContainers(engine, host.host_id).remove()


@pytest.mark.parametrize("end", [Dockerd.stop, Dockerd.kill])
def test_an_engine_that_lets_its_jobs_live(
    end: Callable[[Dockerd], None], make_host: StartHost, live_engine: Dockerd, tmp_path: Path
) -> None:
    """With live-restore jobs go on, and what ended while the engine was away is told as it was."""
    traces = tmp_path / "traces"
    host = make_host(live_engine.url)
    containers = HostContainers(live_engine, host.host_id)
    host.start()
    stays, ends = tracing(traces, "exec sleep 3600"), tracing(traces, ENDS)
    host.api.run(stays, ends)
    host.api.running(ends)
    before = host.api.running(stays)
    pids = containers.pids()
    end(live_engine)
    (traces / "go").touch()
    wait_until(lambda: not Path(f"/proc/{pids[ends['id']]}").exists(), "its end")
    live_engine.start()
    host.wait_ready()
    active = host.api.ended(ends)
    assert (status(active), active["exit_status"]) == (JobStatus.CRASHED, 5)
    assert host.api.job(stays) == before
    assert containers.pids() == {stays["id"]: pids[stays["id"]]}
    assert starts(traces, stays) == 1
    containers.remove()


def test_an_engine_that_hangs(make_host: StartHost, engine: Dockerd, tmp_path: Path) -> None:
    """The host goes on answering, says what is wrong, takes jobs and runs them when it can."""
    traces = tmp_path / "traces"
    host = make_host(engine.url)
    host.start()
    stays, ends = sleeper(), tracing(traces, ENDS)
    host.api.run(stays, ends)
    host.api.running(stays)
    host.api.running(ends)
    pid = HostContainers(engine, host.host_id).pids()[ends["id"]]
    engine.pause()
    try:
        earliest = datetime.now(UTC)
        (traces / "go").touch()
        wait_until(lambda: _is_over(pid), "its end")
        latest = datetime.now(UTC)
        later = [tracing(traces, "exec sleep 3600") for _ in range(6)]
        host.api.run(*later)
        began = time.monotonic()
        assert "no answer" in not_ready(host)
        # Some wait for the engine's answer, the others for their turn: these can be ended without it.
        unstarted = next(job for job in later if host.api.job(job)["phase"] == "accepted")
        assert host.api.stop(unstarted, within=5).status == 200
        later.remove(unstarted)
        while time.monotonic() < began + 12:  # every request is answered soon, all the time
            _answers_soon(host)
        host.terminate()
        host.begin()
        host.wait_listening()
        assert not_ready(host)
        wait_until(lambda: host.api.get("/host/jobs", within=2).status == 200, "the reading of the journal")
        _answers_soon(host)
        assert {job["id"] for job in (stays, ends, *later)} <= set(host.api.jobs())
    finally:
        engine.go_on()
    host.wait_ready()
    active = host.api.ended(ends)
    assert (status(active), active["exit_status"]) == (JobStatus.CRASHED, 5)
    assert earliest <= datetime.fromisoformat(active["ended_at"]) <= latest
    for job in later:
        host.api.running(job)
    assert [starts(traces, job) for job in (ends, *later)] == [1] * 6
    assert host.api.job(unstarted)["error"] == "stopped before it was started"
    assert starts(traces, unstarted) == 0
    assert status(host.api.job(stays)) is JobStatus.RUNNING
    HostContainers(engine, host.host_id).remove()


def _is_over(pid: int) -> bool:
    """Whether a process has ended, if only nobody has taken note of it."""
    stat = Path(f"/proc/{pid}/stat")
    return not stat.exists() or stat.read_text().rpartition(")")[2].split()[0] == "Z"


def _answers_soon(host: HostProcess) -> None:
    assert host.api.get("/host/jobs", within=2).status == 200
    assert host.api.get("/health", within=2).status == 200
    assert host.api.get("/host/status", within=2).status == 200


def test_events_that_are_lost(
    make_host: StartHost, dockerd: Engine, host_id: str, short_dir: Path, tmp_path: Path
) -> None:
    """Ends are known also when the events broke off for a while, or stay away in silence."""
    path = Path(dockerd.url.removeprefix("unix://"))
    relays = [EngineRelay(short_dir / name, path) for name in ("cut", "silent")]
    cut, silent = (
        make_host(relays[0].url, name="cut"),
        make_host(relays[1].url, host_id=f"{host_id}s", name="s"),
    )
    traces = tmp_path / "traces"
    jobs: list[WireJob] = [tracing(traces, ENDS) for _ in range(4)]
    try:
        for host, own in ((cut, jobs[:2]), (silent, jobs[2:])):
            host.start()
            host.api.run(*own)
            for job in own:
                host.api.running(job)
        relays[0].cut_events()
        relays[1].silent = True
        assert not_ready(cut)
        (traces / "go").touch()
        pids = [*HostContainers(dockerd, host_id).pids(), *HostContainers(dockerd, silent.host_id).pids()]
        wait_until(lambda: not HostContainers(dockerd, host_id).pids(), f"the end of {pids}")
        relays[0].refuses = False
        for job in jobs[:2]:
            assert cut.api.ended(job)["exit_status"] == 5
        cut.wait_ready()
        for job in jobs[2:]:
            assert silent.api.ended(job)["exit_status"] == 5
        for job in jobs:
            assert starts(traces, job) == 1
    finally:
        for relay in relays:
            relay.close()
        HostContainers(dockerd, silent.host_id).remove()
