"""A scheduler whose request died with the leader asks again, with the same IDs."""

from __future__ import annotations

import pytest

from tests.support.caller import Caller
from tests.support.cluster_rig import ClusterRig, post_until_taken
from tests.support.container_history import ContainerHistory
from tests.support.schedulers import Batch
from tests.support.waiting import wait_until
from tests.support.wire_jobs import sleeper

pytestmark = [pytest.mark.docker, pytest.mark.etcd, pytest.mark.timeout(300)]

EACH = 4


@pytest.mark.parametrize("moment", ["at once", "when the leader has its own", "when a host has them"])
def test_the_leader_dies_over_a_batch(cluster: ClusterRig, history: ContainerHistory, moment: str) -> None:
    """Whether some hosts had their jobs or not: in the end there is exactly one of each."""
    leader = cluster.leader()
    others = cluster.others(leader)
    batch: Batch = {host.host_id: [sleeper() for _ in range(EACH)] for host in cluster.hosts}
    caller = Caller(leader, batch)
    if moment != "at once":
        first = leader if moment == "when the leader has its own" else others[0]
        arriving = {job["id"] for job in batch[first.host_id]}
        wait_until(lambda: arriving & set(first.api.jobs()), "the jobs to arrive")
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


def test_ended_under_an_earlier_leader(cluster: ClusterRig, history: ContainerHistory) -> None:
    """The IDs of jobs that have ended get onto no other host, also when another host leads by then."""
    leader = cluster.leader()
    asked, other = cluster.others(leader)
    job = sleeper(cmd=["true"])
    assert post_until_taken(leader, {asked.host_id: [job]}).status == 200
    asked.api.ended(job)

    def refused() -> None:
        answer = post_until_taken(cluster.whole(), {other.host_id: [job]})
        assert (answer.status, answer.json["code"]) == (409, "conflict")
        assert f"host {asked.host_id}" in answer.json["message"]

    refused()
    leader.kill9()
    leader.begin()
    cluster.leader(but=[leader])
    leader.wait_listening()
    refused()
    again = post_until_taken(other, {asked.host_id: [job]})
    assert (again.status, again.json["jobs"][0]["state"]) == (200, "done")
    assert len(history.started(job["id"])) == 1
