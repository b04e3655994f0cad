"""A host that can't reach the leader, or etcd: its jobs go on, and all agree when it can again."""

from __future__ import annotations

import time

import pytest

from tests.support.cluster_jobs import running_everywhere, works_alone
from tests.support.cluster_rig import ETCD, ClusterRig, get, leading, post, post_until_taken
from tests.support.host_process import HostProcess
from tests.support.onlooker import Onlooker
from tests.support.waiting import wait_until
from tests.support.wire_jobs import shell_job, sleeper

pytestmark = [pytest.mark.docker, pytest.mark.etcd, pytest.mark.timeout(300)]

SILENCE = 15.0
"""Seconds after which leader and host give each other up."""


def shown(leader: HostProcess, host: HostProcess) -> str:
    """How the leader shows a host: up, down or gone."""
    answer = get(leader, "/cluster/hosts?jobs=none", within=10)
    assert answer is not None
    listed = {each["id"]: each.get("state", "up") for each in answer.json}
    return str(listed.get(host.host_id, "gone"))


def test_between_a_host_and_the_leader(cluster: ClusterRig) -> None:
    """The host is shown down, not gone; what it does meanwhile the leader learns when it is back."""
    jobs = running_everywhere(cluster)
    leader = cluster.leader()
    term = leading(leader)["term"]
    cut_off, other = cluster.others(leader)
    unknown = sleeper()
    with Onlooker([leader, other]) as onlooker:
        cluster.network.cut(cut_off.host_id, leader.host_id)
        began = time.monotonic()
        wait_until(lambda: shown(leader, cut_off) != "up", "the host to be shown down", SILENCE + 5)
        print(f"shown down after {time.monotonic() - began:.2f} s")
        assert shown(leader, cut_off) == "down"
        refused = post(leader.api, {other.host_id: [unknown], cut_off.host_id: [sleeper()]}, within=5)
        assert refused.status == 409
        assert refused.json["detail"]["host_id"] == cut_off.host_id
        taken = post(leader.api, {other.host_id: [sleeper()], leader.host_id: [sleeper()]}, within=5)
        assert taken.status == 200
        works_alone(cut_off)
        put = shell_job("exec sleep 3600")
        assert cut_off.api.request("PUT", f"/host/jobs/{put['id']}", put).status == 200
        jobs.counting(cut_off)
        jobs.untouched()
        cluster.network.heal_all()
        cluster.whole()
    assert unknown["id"] not in other.api.jobs()
    assert onlooker.late_claims() == []
    assert onlooker.gaps(jobs.ids(leader, other)) == []
    cluster.agreed()
    assert put["id"] in cluster.active(cut_off)
    assert leading(leader)["term"] == term
    jobs.untouched()


def test_between_a_host_and_etcd(cluster: ClusterRig) -> None:
    """A host whose lease ends is used as before, as long as the leader hears of it."""
    jobs = running_everywhere(cluster)
    leader = cluster.leader()
    term = leading(leader)["term"]
    cut_off, _ = cluster.others(leader)
    with Onlooker([leader]) as onlooker:
        cluster.network.cut(cut_off.host_id, ETCD)
        began = time.monotonic()
        while time.monotonic() < began + cluster.ttl + 2:
            assert post_until_taken(leader, {cut_off.host_id: [sleeper()]}, within=5).status == 200
            works_alone(cut_off)
            jobs.counting(cut_off)
        cluster.network.heal_all()
        cluster.whole()
    assert onlooker.gaps(jobs.ids(*cluster.hosts)) == []
    cluster.agreed()
    assert leading(leader)["term"] == term
    jobs.untouched()


def test_between_the_leader_and_etcd(cluster: ClusterRig) -> None:
    """It steps down before another one leads, and is one of the others when it is healed."""
    jobs = running_everywhere(cluster)
    old = cluster.leader()
    others = cluster.others(old)
    with Onlooker(cluster.hosts) as onlooker:
        cluster.network.cut(old.host_id, ETCD)
        new = cluster.whole(but=[old])
        assert not leading(old) or leading(old)["id"] == new.host_id
        batch = {host.host_id: [sleeper()] for host in others}
        assert post_until_taken(new, batch).status == 200
        works_alone(old)
        jobs.counting(old)
        jobs.untouched()
        cluster.network.heal_all()
        assert cluster.whole() is new
    assert onlooker.late_claims() == []
    assert onlooker.gaps(jobs.ids(*others)) == []
    cluster.agreed()
    jobs.untouched()
