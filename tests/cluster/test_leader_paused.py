"""A leader that stood still, and wakes up when another one leads, does no harm."""

from __future__ import annotations

import signal
from functools import partial

import pytest

from flynnhost.agent.spec import LABEL_JOB, LABEL_TERM
from tests.support.caller import Caller, open_connection
from tests.support.cluster_jobs import running_everywhere
from tests.support.cluster_rig import ClusterRig, leading, post_until_taken
from tests.support.container_history import ContainerHistory
from tests.support.onlooker import Onlooker
from tests.support.waiting import wait_until
from tests.support.wire_jobs import sleeper

pytestmark = [pytest.mark.docker, pytest.mark.etcd, pytest.mark.timeout(240)]


def test_a_leader_that_wakes_up_too_late(cluster: ClusterRig, history: ContainerHistory) -> None:
    """Nothing is run in its name any more, neither what was on its way nor what it reads now."""
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
        connections = [open_connection(old) for _ in range(3)]
        old.signal(signal.SIGSTOP)
        # These it reads when it leads no longer, before it reads of that.
        unread = [
            Caller(old, {old.host_id: [sleeper()]}),
            Caller(old, {old.host_id: [sleeper()]}, connections[0]),
            Caller(old, {others[0].host_id: [sleeper()]}, connections[1]),
            Caller(old, {host.host_id: [sleeper()] for host in cluster.hosts}, connections[2]),
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
        # What it reads then goes to the new leader, to which it may not have come back yet.
        print(f"read too late: {caller.answer.status} {caller.answer.body.decode()[:200]}")
        assert caller.answer.status in (200, 409, 503)
    for caller in on_the_way:
        assert caller.answer is None or caller.answer.status == 504, caller.answer
    for caller in (*on_the_way, *unread):
        assert post_until_taken(new, caller.batch).status == 200
    cluster.agreed()
    cluster.at_rest()
    for caller in (*on_the_way, *unread):
        assert [len(history.started(job_id)) for job_id in caller.jobs] == [1] * len(caller.jobs)
        assert terms_of(cluster, caller.jobs) == {leading(new)["term"]}


def terms_of(cluster: ClusterRig, job_ids: list[str]) -> set[int]:
    """The terms of the leaders who had these jobs run."""
    labels = [
        container["Config"]["Labels"]
        for host in cluster.hosts
        for container in cluster.containers(host).all()
    ]
    return {int(each[LABEL_TERM]) for each in labels if each[LABEL_JOB] in job_ids}
