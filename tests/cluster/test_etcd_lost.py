"""Without etcd nobody leads, all jobs go on, and everything comes back by itself."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable

import pytest

from flynnhost.model import JobStatus
from tests.support.cluster_jobs import running_everywhere, works_alone
from tests.support.cluster_rig import ClusterRig, leading, post, post_until_taken
from tests.support.etcd import Member
from tests.support.host_api import status
from tests.support.onlooker import Onlooker
from tests.support.waiting import wait_until
from tests.support.wire_jobs import shell_job, sleeper

pytestmark = [pytest.mark.docker, pytest.mark.etcd, pytest.mark.timeout(400)]

OUTAGE = float(os.environ.get("FLYNN_HOST_TEST_ETCD_OUTAGE", "12"))
"""For how many seconds etcd is away, more than twice the TTL of the hosts' leases."""

BUSY = 2.0
"""Seconds that are added to the TTL, for a machine that does other things too."""


def hangs(member: Member) -> None:
    member.signal(signal.SIGSTOP)


@pytest.mark.parametrize("lose", [Member.kill, hangs], ids=["killed", "hangs"])
def test_etcd_is_away(cluster: ClusterRig, lose: Callable[[Member], None]) -> None:
    """Jobs, hosts' own work and output go on; there is no leader rather than two; and all comes back."""
    jobs = running_everywhere(cluster)
    ends_meanwhile = {host.host_id: shell_job(f"sleep {cluster.ttl}; exit 6") for host in cluster.hosts}
    leader = cluster.leader()
    term = leading(leader)["term"]
    batch = {host_id: [job] for host_id, job in ends_meanwhile.items()}
    assert post_until_taken(leader, batch).status == 200
    with Onlooker(cluster.hosts) as onlooker:
        began = time.monotonic()
        for member in cluster.etcd.members:
            lose(member)
        wait_until(
            lambda: not any(map(leading, cluster.hosts)), "the leader to step down", cluster.ttl + BUSY
        )
        print(f"nobody leads after {time.monotonic() - began:.2f} s of a TTL of {cluster.ttl}")
        for host in cluster.hosts:
            refused = post(host.api, {host.host_id: [sleeper()]})
            assert (refused.status, refused.json["code"]) == (503, "no_leader")
            assert "retry-after" in refused.headers
        while time.monotonic() < began + OUTAGE:
            for host in cluster.hosts:
                works_alone(host)
                jobs.counting(host)
                assert not leading(host)
        for host in cluster.hosts:
            ended = host.api.ended(ends_meanwhile[host.host_id], within=5)
            assert (status(ended), ended["exit_status"]) == (JobStatus.CRASHED, 6)
        jobs.untouched()
        back = time.monotonic()
        cluster.bring_back_etcd()
        cluster.whole()
        print(f"all is well {time.monotonic() - back:.2f} s after etcd is back")
    assert onlooker.late_claims() == []
    assert leading(cluster.leader())["term"] >= term
    assert onlooker.gaps(jobs.ids(*cluster.hosts)) == []
    cluster.agreed()
    jobs.untouched()
