"""How jobs end is told as it was."""

from __future__ import annotations

import os
import signal

import pytest

from flynnhost.model import JobStatus
from tests.support.host_api import WireJob, status
from tests.support.host_containers import HostContainers
from tests.support.host_process import HostProcess
from tests.support.waiting import wait_until
from tests.support.wire_jobs import shell_job, sleeper, wire_job

pytestmark = pytest.mark.docker


def test_the_exit_status_is_told(host: HostProcess) -> None:
    """Exit 0 is done, any other is crashed with that status; both have their times."""
    done, crashed = wire_job("true"), shell_job("exit 7")
    host.api.run(done, crashed)
    for job, state, exit_status in ((done, JobStatus.DONE, 0), (crashed, JobStatus.CRASHED, 7)):
        active = host.api.ended(job)
        assert (status(active), active.get("exit_status", 0)) == (state, exit_status)
        assert active["accepted_at"] <= active["started_at"] <= active["ended_at"]
        assert active.get("error", "") == ""


def test_a_job_that_cant_start_has_failed(host: HostProcess, containers: HostContainers) -> None:
    """A missing program is told in the engine's words, and nothing of the job remains."""
    job = wire_job("/no/such/program")
    with host.api.events() as events:
        host.api.run(job)
        active = host.api.ended(job)
        events.wait_kind(job["id"], "error")
    assert status(active) is JobStatus.FAILED
    assert "/no/such/program" in active["error"]
    assert "no such file or directory" in active["error"]
    assert active["started_at"] == "0001-01-01T00:00:00Z"
    assert events.kinds(job["id"]) == ["create", "error"]
    wait_until(lambda: not containers.of(job), "the removal of its container")


def test_a_job_killed_by_a_signal(host: HostProcess, containers: HostContainers) -> None:
    """A process that a signal ended has crashed with 128 and the signal's number."""
    job = sleeper()
    host.api.run(job)
    host.api.running(job)
    os.kill(containers.only(job)["State"]["Pid"], signal.SIGKILL)
    active = host.api.ended(job)
    assert (status(active), active["exit_status"]) == (JobStatus.CRASHED, 137)
    assert "oom_killed" not in active


def test_out_of_memory(host: HostProcess) -> None:
    """A job that needs more than it may have has crashed, and it says why."""
    job: WireJob = wire_job("tail", "/dev/zero") | {"resources": {"memory": {"limit": 16 << 20}}}
    host.api.run(job)
    active = host.api.ended(job)
    assert (status(active), active["exit_status"]) == (JobStatus.CRASHED, 137)
    assert active["oom_killed"] is True
    assert active["error"] == "killed: out of memory"


def test_a_hundred_that_end_at_once(host: HostProcess) -> None:
    """Jobs that end before anyone could look are done, every one of them, after being started once."""
    jobs = [wire_job("true") for _ in range(100)]
    with host.api.events() as events:
        host.api.run(*jobs)
        known = host.api.all_are(jobs, JobStatus.DONE)
        for job in jobs:
            events.wait_kind(job["id"], "stop")
    for job in jobs:
        assert known[job["id"]].get("exit_status", 0) == 0
        assert events.kinds(job["id"]) == ["create", "start", "stop"]
