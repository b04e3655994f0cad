"""``--force`` ends what an earlier instance of this host booted, and nothing else."""

from __future__ import annotations

import pytest

from flynnhost.model import JobStatus
from tests.conftest import Engine, remove_containers
from tests.integration.conftest import StartHost
from tests.support.busybox import IMAGE
from tests.support.host_api import status
from tests.support.host_containers import HostContainers
from tests.support.wire_jobs import sleeper

pytestmark = pytest.mark.docker


def test_force(make_host: StartHost, dockerd: Engine, host_id: str) -> None:
    """Of two hosts on one engine, and somebody's own container, only this host's containers go."""
    mine, other = make_host(dockerd.url), make_host(dockerd.url, host_id=f"{host_id}b", name="b")
    label = {"somebody": host_id}
    client = dockerd.client()
    try:
        stranger = client.create_container(IMAGE, ["sleep", "3600"], labels=label)["Id"]
        client.start(stranger)
        mine.start()
        other.start()
        jobs = [sleeper(), sleeper(), sleeper()]
        mine.api.run(*jobs[:2])
        other.api.run(jobs[2])
        for job in jobs[:2]:
            mine.api.running(job)
        other.api.running(jobs[2])
        mine.kill9()

        mine.start("--force")

        assert HostContainers(dockerd, host_id).all() == []
        for job in jobs[:2]:
            active = mine.api.job(job)
            assert (status(active), active["error"]) == (JobStatus.CRASHED, "ended by --force")
        assert status(other.api.job(jobs[2])) is JobStatus.RUNNING
        assert client.inspect_container(stranger)["State"]["Running"]
        again = sleeper()
        mine.api.run(again)
        mine.api.running(again)
    finally:
        client.close()
        remove_containers(dockerd, label)
        HostContainers(dockerd, other.host_id).remove()
