"""A leader that stood still, and wakes up when another one leads, does no harm."""

from __future__ import annotations

import signal
from functools import partial

import pytest

from tests.support.caller import Caller
from tests.support.cluster_jobs import running_everywhere
from tests.support.cluster_rig import ClusterRig, leading, post_until_taken
from tests.support.container_history import ContainerHistory
from tests.support.onlooker import Onlooker
from tests.support.waiting import wait_until
from tests.support.wire_jobs import sleeper

pytestmark = [pytest.mark.docker, pytest.mark.etcd, pytest.mark.timeout(240)]


def test_a_leader_that_wakes_up_too_late(cluster: ClusterRig, history: ContainerHistory) -> None:
    """What it was asked meanwhile, and what was on its way, is done by nobody; it follows the next leader."""
    jobs = running_everywhere(cluster)
    old = cluster.leader()
    term = leading(old)["term"]
    others = cluster.others(old)
    with Onlooker(cluster.hosts) as onlooker:
        # These it hands to others, but they don't get there while it leads.
        for host in others:
            cluster.network.cut(old.host_id, host.host_id)
        on_the_way = [Caller(old, {host.host_id: [sleeper()]}) for host in others]
        for host in others:
            wait_until(partial(cluster.network.held, old.host_id, host.host_id), "a command to be on its way")
        old.signal(signal.SIGSTOP)
        # These it reads when it leads no longer.
        unread = [
            Caller(old, {old.host_id: [sleeper()]}),
            Caller(old, {host.host_id: [sleeper()] for host in cluster.hosts}),
        ]
        new = cluster.whole(but=[old])
        cluster.network.heal_all()
        old.signal(signal.SIGCONT)
        for caller in (*on_the_way, *unread):
            caller.wait()
        assert cluster.whole() is new
    assert leading(new)["term"] > term
    assert onlooker.late_claims() == []
    assert f"{old.host_id} leads" not in str(old.api.get("/ready").json)
    assert "This host leads no longer" in old.log()
    cluster.agreed()
    jobs.untouched()
    for caller in unread:
        assert caller.answer is not None
        assert (caller.answer.status, caller.answer.json["code"]) == (503, "no_leader")
    for caller in (*on_the_way, *unread):
        assert caller.answer is None or caller.answer.status in (503, 504), caller.answer
        assert [history.started(job_id) for job_id in caller.jobs] == [[]] * len(caller.jobs)
        assert not any(set(caller.jobs) & set(host.api.jobs()) for host in cluster.hosts)
        # They are free to be asked for again.
        assert post_until_taken(new, caller.batch).status == 200
