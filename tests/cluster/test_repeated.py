"""A scheduler whose request died with the leader asks again, with the same IDs."""

from __future__ import annotations

import time

import pytest

from tests.support.caller import Caller
from tests.support.cluster_rig import ClusterRig, post_until_taken
from tests.support.container_history import ContainerHistory
from tests.support.schedulers import Batch
from tests.support.waiting import wait_until
from tests.support.wire_jobs import sleeper

pytestmark = [pytest.mark.docker, pytest.mark.etcd, pytest.mark.timeout(300)]

EACH = 4


@pytest.mark.parametrize("moment", ["at once", "soon", "when a host has them"])
def test_the_leader_dies_over_a_batch(cluster: ClusterRig, history: ContainerHistory, moment: str) -> None:
    """Whether some hosts had their jobs or not: in the end there is exactly one of each."""
    leader = cluster.leader()
    others = cluster.others(leader)
    batch: Batch = {host.host_id: [sleeper() for _ in range(EACH)] for host in cluster.hosts}
    first = {job["id"] for job in batch[others[0].host_id]}
    caller = Caller(leader, batch)
    if moment == "soon":
        time.sleep(0.01)  # anything may have happened by then
    elif moment == "when a host has them":
        wait_until(lambda: first & set(others[0].api.jobs()), "the jobs to arrive")
    leader.kill9()
    caller.wait()
    print(f"the leader died {moment}: {'acknowledged' if caller.answer else 'no answer'}")
    leader.begin()
    assert post_until_taken(cluster.leader(but=[leader]), batch).status == 200
    leader.wait_listening()
    cluster.agreed()
    cluster.at_rest()
    assert {job_id: len(history.started(job_id)) for job_id in caller.jobs} == dict.fromkeys(caller.jobs, 1)
    for host in cluster.hosts:
        assert cluster.active(host) == {job["id"] for job in batch[host.host_id]}
