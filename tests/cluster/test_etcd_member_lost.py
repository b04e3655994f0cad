"""One of three members of etcd is lost: nothing is noticed beyond a retry."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from tests.cluster.conftest import MakeCluster, disturbed
from tests.support.cluster_jobs import running_everywhere
from tests.support.cluster_rig import ClusterRig, leading, post_until_taken
from tests.support.onlooker import Onlooker
from tests.support.waiting import wait_until
from tests.support.wire_jobs import wire_job

pytestmark = [pytest.mark.docker, pytest.mark.etcd, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def _with_three(make_cluster: MakeCluster) -> Iterator[ClusterRig]:
    rig = make_cluster(members=3, size=2)
    yield rig
    rig.end()


@pytest.fixture
def cluster(_with_three: ClusterRig) -> Iterator[ClusterRig]:
    """Two hosts on an etcd of three members."""
    yield from disturbed(_with_three)


@pytest.mark.parametrize("which", ["the leader of etcd", "a follower"])
def test_one_member_is_killed(cluster: ClusterRig, which: str) -> None:
    """The leader stays, for longer than its lease would; batches are taken all the time."""
    jobs = running_everywhere(cluster)
    leader = cluster.leader()
    term = leading(leader)["term"]
    member = cluster.etcd.leader() if which == "the leader of etcd" else cluster.etcd.followers()[0]
    with Onlooker(cluster.hosts) as onlooker:
        began = time.monotonic()
        member.kill()
        while time.monotonic() < began + cluster.ttl + 2:
            batch = {host.host_id: [wire_job("true")] for host in cluster.hosts}
            assert post_until_taken(leader, batch, within=5).status == 200
            for host in cluster.hosts:
                host.api.ended(batch[host.host_id][0])
        cluster.etcd.run(member, "existing")
        cluster.etcd.wait_ready()
    assert {each.term for each in onlooker.glances if each.leader} == {term}
    lost = [each for each in onlooker.glances if each.host_id == leader.host_id and not each.leader]
    assert lost == []
    assert onlooker.gaps(jobs.ids(*cluster.hosts)) == []
    wait_until(lambda: leading(leader).get("term") == term, "the leader to lead still")
    cluster.agreed()
    jobs.untouched()
