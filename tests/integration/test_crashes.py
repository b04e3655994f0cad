"""A host that is killed at any moment keeps its promises: nothing lost, nothing run twice."""

from __future__ import annotations

import http.client
import itertools
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from attrs import frozen

from flynnhost.model import JobStatus
from tests.conftest import Engine
from tests.integration.conftest import StartHost
from tests.support.armed_host import FROM_THE_START
from tests.support.host_api import WireJob, status
from tests.support.host_containers import HostContainers
from tests.support.host_process import HostProcess
from tests.support.waiting import wait_until
from tests.support.wire_jobs import starts, tracing

pytestmark = [pytest.mark.docker, pytest.mark.timeout(300)]

ARMED = Path(__file__).parents[1] / "support" / "armed_host.py"


@frozen
class Expected:
    """A job, and how it is to be in the end, however often its host was killed."""

    job: WireJob
    status: JobStatus
    exit_status: int = 0


Batch = list[Expected]


def one_job(traces: Path) -> Batch:
    return [Expected(tracing(traces, "exec sleep 3600"), JobStatus.RUNNING)]


def three_jobs(traces: Path) -> Batch:
    return [
        Expected(tracing(traces, "exec sleep 3600", ports=[{}]), JobStatus.RUNNING),
        Expected(tracing(traces, "exit 6"), JobStatus.CRASHED, 6),
        Expected(tracing(traces, "", entry_point=["/no/such/program"]), JobStatus.FAILED),
    ]


@pytest.mark.parametrize(("make", "least_steps", "stride"), [(one_job, 10, 1), (three_jobs, 25, 3)])
def test_killed_at_any_step(
    make: Callable[[Path], Batch],
    least_steps: int,
    stride: int,
    make_host: StartHost,
    dockerd: Engine,
    host_id: str,
    tmp_path: Path,
) -> None:
    """Whatever the last thing was that a host did, the next run ends what it began, and nothing twice."""
    host = make_host(dockerd.url)
    traces = tmp_path / "traces"
    containers = HostContainers(dockerd, host_id)
    batch: Batch = []
    acknowledged, when = False, ""
    for step in itertools.count(1, stride):
        before, batch = batch, make(traces)
        steps = _arm(host, step, batch[0].job["id"])
        host.start()
        _check(host, before, acknowledged, containers, traces, when)
        acknowledged = _post(host, batch)
        if _survives(host, batch):
            break
        when = f"killed at step {step}, {steps.read_text().splitlines()[-1]}"
    assert step > least_steps
    _check(host, batch, acknowledged, containers, traces, "not killed")


def test_killed_at_any_step_of_the_recovery(
    make_host: StartHost, dockerd: Engine, host_id: str, tmp_path: Path
) -> None:
    """Hosts that are killed while they take up the work of killed hosts come to the same end."""
    host = make_host(dockerd.url)
    traces = tmp_path / "traces"
    batch = [expected for _ in range(3) for expected in three_jobs(traces)]
    host.start()
    host.api.run(*(expected.job for expected in batch))
    host.kill9()
    for step in itertools.count(1, 3):
        _arm(host, step, FROM_THE_START)
        host.begin()
        if _survives(host, batch):
            break
    assert step > 8
    _check(host, batch, True, HostContainers(dockerd, host_id), traces, "killed again and again")


def _arm(host: HostProcess, step: int, job_id: str) -> Path:
    """Have the next run of a host end at a step. What its steps were will be in the file."""
    steps = host.directory / f"steps-{step}"
    host.program = (sys.executable, str(ARMED), str(step), job_id, str(steps))
    return steps


def _post(host: HostProcess, batch: Batch) -> bool:
    """Hand a batch to a host that may end over it. Says whether it was acknowledged."""
    try:
        return host.api.post(*(expected.job for expected in batch)).status == 200
    except (OSError, http.client.HTTPException):
        return False


def _survives(host: HostProcess, batch: Batch) -> bool:
    """Whether all jobs are where they are to be, and the host still lives some time later."""
    seen: dict[str, str] = {}

    def settled() -> bool:
        try:
            host.wait_listening()
            known = host.api.jobs()
        except (AssertionError, OSError, http.client.HTTPException):
            return False
        seen.update({job_id: f"{status(job).name} {job}" for job_id, job in known.items()})
        return all(
            expected.job["id"] in known and status(known[expected.job["id"]]) is expected.status
            for expected in batch
        )

    try:
        wait_until(lambda: not host.alive or settled(), "the host to end, or to have done all", within=45)
    except AssertionError as e:
        late = {each.job["id"]: each.status.name for each in batch}
        told = "\n".join(f"{job_id} should be {late[job_id]}, is {seen.get(job_id)}" for job_id in late)
        raise AssertionError(f"{e}:\n{told}") from None
    try:
        wait_until(lambda: not host.alive, "its end", within=3)
    except AssertionError:
        return True
    return False


def _check(
    host: HostProcess,
    batch: Batch,
    acknowledged: bool,
    containers: HostContainers,
    traces: Path,
    when: str,
) -> None:
    jobs = [expected.job for expected in batch]
    known = set(host.api.jobs()) & {job["id"] for job in jobs}
    assert len(known) in ((len(jobs),) if acknowledged else (0, len(jobs))), when
    if jobs:
        assert host.api.post(*jobs).status == 200, when  # as a client that got no answer does
    for expected in batch:
        _check_job(host, expected, containers, traces, when)


def _check_job(
    host: HostProcess, expected: Expected, containers: HostContainers, traces: Path, when: str
) -> None:
    job, wanted = expected.job, expected.status
    active = host.api.until(job, lambda active: status(active) is wanted, f"be {wanted.name}, {when}")
    assert active.get("exit_status", 0) == expected.exit_status, when
    failed = wanted is JobStatus.FAILED
    assert bool(active.get("error")) is failed, when
    times = 0 if failed else 1
    wait_until(lambda: len(containers.of(job)) == times, f"{times} containers, {when}")
    wait_until(lambda: starts(traces, job) == times, f"{times} starts, {when}")
    if not failed:
        container = containers.only(job)
        assert container["State"]["Running"] is (wanted is JobStatus.RUNNING), when
        ports = [port["port"] for port in active["job"]["config"].get("ports", [])]
        assert ports == _published(container), when


def _published(container: dict[str, Any]) -> list[int]:
    """The ports of the host that a container has."""
    bindings = (container["HostConfig"]["PortBindings"] or {}).values()
    return [int(port["HostPort"]) for (port,) in bindings]


def test_ten_kills_under_fifty_jobs(
    make_host: StartHost, dockerd: Engine, host_id: str, tmp_path: Path
) -> None:
    """Jobs go on as if nothing had happened, and what ends meanwhile is told as it was."""
    host = make_host(dockerd.url)
    containers, traces = HostContainers(dockerd, host_id), tmp_path / "traces"
    staying = [tracing(traces, "exec sleep 3600") for _ in range(45)]
    leaving = [
        tracing(traces, f"while [ ! -e /trace/go{n} ]; do sleep 0.1; done; exit {n}") for n in range(1, 6)
    ]
    host.start()
    host.api.run(*staying, *leaving)
    host.api.all_are([*staying, *leaving], JobStatus.RUNNING)
    before = containers.pids()
    for n in range(1, 11):
        host.kill9()
        if n > 5:
            # Half of the kills come as soon as the host listens, the others when it has seen all jobs.
            host.begin()
            host.wait_listening()
            continue
        job = leaving[n - 1]
        earliest = datetime.now(UTC)
        (traces / f"go{n}").touch()
        _wait_end(containers, job)
        latest = datetime.now(UTC)
        host.start()
        active = host.api.ended(job)
        assert (status(active), active["exit_status"]) == (JobStatus.CRASHED, n)
        assert earliest <= datetime.fromisoformat(active["ended_at"]) <= latest
    host.kill9()
    host.start()
    known = host.api.jobs()
    assert len(known) == 50
    for job in staying:
        assert status(known[job["id"]]) is JobStatus.RUNNING
        assert containers.pids()[job["id"]] == before[job["id"]]
    for job in (*staying, *leaving):
        assert starts(traces, job) == 1
    assert all(each["RestartCount"] == 0 for each in containers.all())


def _wait_end(containers: HostContainers, job: WireJob) -> None:
    wait_until(lambda: not containers.only(job)["State"]["Running"], "the end of a container")
