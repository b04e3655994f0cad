"""What is taken, what is refused, and that refusing changes nothing."""

from __future__ import annotations

from typing import Any

import pytest

from flynnhost.model import JobStatus
from tests.support.host_api import Answer, WireJob
from tests.support.host_containers import HostContainers
from tests.support.host_process import HostProcess
from tests.support.wire_jobs import sleeper, wire_job

pytestmark = [pytest.mark.docker, pytest.mark.timeout(240)]


def put(host: HostProcess, job: WireJob) -> Answer:
    return host.api.request("PUT", f"/host/jobs/{job['id']}", job)


def test_the_same_job_twice(host: HostProcess, containers: HostContainers) -> None:
    """A job that is sent again is the same job, running or ended, by either way in."""
    running, ended = sleeper(), wire_job("true")
    host.api.run(running, ended)
    host.api.running(running)
    host.api.ended(ended)
    before = containers.pids()
    host.api.run(running, ended)
    assert put(host, running).status == put(host, ended).status == 200
    assert containers.pids() == before
    assert len(containers.of(running)) == len(containers.of(ended)) == 1


def test_other_content_under_a_known_id(host: HostProcess, containers: HostContainers) -> None:
    """An ID that is taken is refused for another job, with all that came with it; the first goes on."""
    first, bystander = sleeper(), sleeper()
    host.api.run(first)
    before = host.api.running(first)
    other = sleeper(job_id=first["id"], env={"A": "B"})
    for answer in (host.api.post(bystander, other), put(host, other)):
        assert answer.status == 409
        assert answer.json["code"] == "conflict"
        assert answer.json["detail"]["job_id"] == first["id"]
    assert host.api.job(first) == before
    assert bystander["id"] not in host.api.jobs()
    assert containers.of(bystander) == []


@pytest.mark.parametrize(
    ("config", "field"),
    [
        ({"ports": [{}, {"proto": "sctp"}]}, "config.ports[1].proto"),
        ({"ports": [{"service": {"name": "web"}}]}, "config.ports[0].service"),
        ({"mounts": [{"location": "data", "target": "/tmp"}]}, "config.mounts[0].location"),
        ({"no_such_field": 1}, "config.no_such_field"),
    ],
)
def test_one_bad_job_in_a_batch(host: HostProcess, config: dict[str, Any], field: str) -> None:
    """A batch with one job that can't be accepted is refused whole, and the field is named."""
    before = host.api.jobs()
    good, bad = sleeper(), wire_job("true", **config)
    answer = host.api.post(good, bad)
    assert (answer.status, answer.json["code"]) == (400, "validation_error")
    assert answer.json["detail"]["field"] == f"{host.host_id}[1].{field}"
    assert answer.json["message"].startswith(f"{host.host_id}[1].{field} ")
    assert host.api.jobs() == before


def test_unknown_host(host: HostProcess) -> None:
    """A batch with jobs for a host that there isn't is refused whole."""
    before = host.api.jobs()
    batch = {host.host_id: [sleeper()], "nobody": [sleeper()]}
    answer = host.api.request("POST", "/cluster/jobs", batch)
    assert (answer.status, answer.json["code"]) == (404, "object_not_found")
    assert answer.json["detail"]["host_id"] == "nobody"
    assert host.api.jobs() == before


def test_two_hundred_jobs_at_once(host: HostProcess, containers: HostContainers) -> None:
    """All jobs of a large batch run, each with a port of its own, which its process knows."""
    jobs = [sleeper(host_network=True, ports=[{}]) for _ in range(200)]
    host.api.run(*jobs)
    known = host.api.all_are(jobs, JobStatus.RUNNING, within=200)
    ports = {job["id"]: known[job["id"]]["job"]["config"]["ports"][0]["port"] for job in jobs}
    assert len(set(ports.values())) == 200
    environments = {each["Config"]["Hostname"]: each["Config"]["Env"] for each in containers.all()}
    for job_id, port in ports.items():
        assert f"PORT={port}" in environments[job_id]
        assert f"PORT_0={port}" in environments[job_id]
