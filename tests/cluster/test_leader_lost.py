"""The leader goes, by force or by itself: another leads soon, knows everything, and no job notices."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from tests.support.cluster_jobs import running_everywhere
from tests.support.cluster_rig import ClusterRig, leading, post, post_until_taken
from tests.support.host_process import HostProcess
from tests.support.onlooker import Onlooker
from tests.support.waiting import wait_until
from tests.support.wire_jobs import sleeper

pytestmark = [pytest.mark.docker, pytest.mark.etcd, pytest.mark.timeout(240)]

BUSY = 3.0
"""Seconds that are added to what is promised, for a machine that does other things too."""


@pytest.mark.parametrize(
    ("end", "within"),
    [(HostProcess.kill9, lambda ttl: ttl + 2.0), (HostProcess.terminate, lambda ttl: 1.0)],
    ids=["killed", "ended"],
)
def test_the_leader_goes(
    cluster: ClusterRig, end: Callable[[HostProcess], None], within: Callable[[int], float]
) -> None:
    """A new leader in time, with full state; no host is shown gone, no container restarted."""
    jobs = running_everywhere(cluster)
    old = cluster.leader()
    term = leading(old)["term"]
    stay = cluster.others(old)
    with Onlooker(stay) as onlooker:
        began = time.monotonic()
        end(old)
        claim = wait_until(lambda: onlooker.first_claim(term), "a new leader")
        complete = wait_until(lambda: onlooker.first_complete(term), "a complete list")
        new = cluster.whole(but=[old])
        late = post_until_taken(stay[0], {host.host_id: [sleeper()] for host in stay})
    print(
        f"after {claim.ended - began:.2f} s a new leader (promised: {within(cluster.ttl):g}), "
        f"after {complete.ended - began:.2f} s its list is complete"
    )
    assert claim.ended - began < within(cluster.ttl) + BUSY
    assert late.status == 200
    assert onlooker.gaps(jobs.ids(*stay)) == []
    assert onlooker.late_claims() == []
    old.start()
    cluster.agreed()
    jobs.untouched()
    assert cluster.leader() is new is not old
    for host, other in zip(cluster.hosts, (*cluster.hosts[1:], cluster.hosts[0]), strict=True):
        # The new leader knows of each job where it is.
        refused = post(new.api, {other.host_id: jobs.jobs[host.host_id][:1]})
        assert (refused.status, refused.json["code"]) == (409, "conflict")
