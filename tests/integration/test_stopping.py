"""Jobs are ended and get signals when somebody asks for it."""

from __future__ import annotations

import socket
import threading
import time

import pytest

from flynnhost.model import JobStatus
from tests.support.host_api import Answer, WireJob, status
from tests.support.host_containers import HostContainers
from tests.support.host_process import HostProcess
from tests.support.waiting import wait_until
from tests.support.wire_jobs import shell_job, wire_job

pytestmark = pytest.mark.docker

FOREVER = "echo ready; while :; do sleep 0.1; done"


def ready(host: HostProcess, job: WireJob) -> None:
    """Wait until a job's traps are set."""
    host.api.running(job)
    wait_for_word(host, job, b"ready")


def wait_for_word(host: HostProcess, job: WireJob, word: bytes) -> None:
    wait_until(lambda: word in host.api.log(job).body, f"the word {word!r}")


def send(host: HostProcess, job: WireJob, signal: str) -> Answer:
    return host.api.request("PUT", f"/host/jobs/{job['id']}/signal/{signal}")


def test_stop_of_a_job_that_heeds_term(host: HostProcess) -> None:
    """The job ends itself, and whoever asked is answered when it has ended."""
    job = shell_job(f"trap 'exit 3' TERM; {FOREVER}")
    host.api.run(job)
    ready(host, job)
    assert host.api.stop(job).status == 200
    active = host.api.job(job)
    assert (status(active), active["exit_status"]) == (JobStatus.CRASHED, 3)
    assert active["force_stop"] is True


def test_stop_of_a_job_that_does_not(host: HostProcess) -> None:
    """The job is killed after the time that it may take."""
    job = shell_job(f"trap '' TERM; {FOREVER}", stop_timeout=10**9)
    host.api.run(job)
    ready(host, job)
    began = time.monotonic()
    assert host.api.stop(job).status == 200
    assert 1 <= time.monotonic() - began < 9, "not the job's own time"
    active = host.api.job(job)
    assert (status(active), active["exit_status"]) == (JobStatus.CRASHED, 137)


def test_stop_while_pulling(host: HostProcess, containers: HostContainers) -> None:
    """A job whose image does not come is ended at once."""
    with socket.create_server(("127.0.0.1", 0)) as registry:  # takes connections, and says nothing
        job = wire_job("true", image=f"127.0.0.1:{registry.getsockname()[1]}/some/image:1")
        host.api.run(job)
        host.api.until(job, lambda active: active["phase"] == "pulling", "be pulling")
        assert host.api.stop(job, within=10).status == 200
    active = host.api.job(job)
    assert (status(active), active["error"]) == (JobStatus.FAILED, "stopped before it was started")
    assert containers.of(job) == []


def test_stop_while_starting(host: HostProcess, containers: HostContainers) -> None:
    """Whatever a stop comes upon, the job ends, and either never ran or ended as told."""
    jobs = [wire_job("sleep", "3600", stop_timeout=0) for _ in range(12)]
    host.api.run(*jobs)
    answers: list[int] = []
    threads = [
        threading.Thread(target=lambda j: answers.append(host.api.stop(j).status), args=(job,))
        for job in jobs
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert answers == [200] * len(jobs)
    for job in jobs:
        active = host.api.job(job)
        if status(active) is JobStatus.FAILED:
            assert active["error"] == "stopped before it was started"
            assert containers.of(job) == []
        else:
            assert (status(active), active["exit_status"]) in (
                (JobStatus.CRASHED, 137),
                (JobStatus.CRASHED, 143),
            )
    assert containers.pids() == {}


def test_nothing_to_stop(host: HostProcess) -> None:
    """A job that is not there, or has ended, can't be stopped."""
    job = wire_job("true")
    assert host.api.stop(job).status == 404
    host.api.run(job)
    host.api.ended(job)
    answer = host.api.stop(job)
    assert (answer.status, answer.json["code"]) == (409, "conflict")


def test_signals(host: HostProcess) -> None:
    """A signal reaches the process, by its number; what is no signal is refused."""
    job = shell_job(f"trap 'echo hup' HUP; trap 'echo usr1' USR1; {FOREVER}")
    host.api.run(job)
    ready(host, job)
    for number, word in ((1, b"hup"), (10, b"usr1")):
        assert send(host, job, str(number)).status == 200
        wait_for_word(host, job, word)
    for wrong in ("0", "65", "99", "HUP", "-1", "1.5"):
        answer = send(host, job, wrong)
        assert (answer.status, answer.json["detail"]["field"]) == (400, "sig")
    assert status(host.api.job(job)) is JobStatus.RUNNING
    assert send(host, job, "9").status == 200
    assert host.api.ended(job)["exit_status"] == 137
    assert send(host, job, "9").status == 409
    assert send(host, wire_job("true"), "9").status == 404
