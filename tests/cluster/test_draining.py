"""A host that drains gets no jobs, whoever leads and whatever is started anew."""

from __future__ import annotations

import pytest

from tests.support.cluster_rig import ClusterRig, post, post_until_taken
from tests.support.host_process import HostProcess
from tests.support.wire_jobs import sleeper

pytestmark = [pytest.mark.docker, pytest.mark.etcd, pytest.mark.timeout(240)]


def drain(host: HostProcess, host_id: str, draining: bool) -> int:
    """Tell a host to drain, by way of any one."""
    return host.api.request("PUT", f"/cluster/hosts/{host_id}/drain", {"draining": draining}).status


def test_outlives_all(cluster: ClusterRig) -> None:
    """It is told through any host, and outlives the leader's process and the host's own."""
    leader = cluster.leader()
    drained, other = cluster.others(leader)

    def check() -> None:
        leader = cluster.whole()
        listed = {host["id"]: host for host in leader.api.get("/cluster/hosts?jobs=none").json}
        assert {host_id: host.get("state") for host_id, host in listed.items()} == {
            host.host_id: "draining" if host is drained else None for host in cluster.hosts
        }
        assert all(host["resources"]["memory"] > 2**20 for host in listed.values())
        job = sleeper()
        refused = post(other.api, {drained.host_id: [job]})
        assert (refused.status, refused.json["code"]) == (409, "conflict")
        assert refused.json["detail"] == {"host_id": drained.host_id, "job_id": job["id"]}

    assert post_until_taken(leader, {drained.host_id: [sleeper()]}).status == 200
    try:
        assert drain(other, drained.host_id, True) == 200
        check()
        leader.kill9()
        leader.begin()
        cluster.leader(but=[leader])
        leader.wait_listening()
        check()
        drained.kill9()
        drained.start()
        check()
        assert len(cluster.active(drained)) == 1
    finally:
        cluster.restore()
        assert drain(other, drained.host_id, False) == 200
    assert post_until_taken(other, {drained.host_id: [sleeper()]}).status == 200
