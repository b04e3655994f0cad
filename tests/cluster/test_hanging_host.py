"""A host that hangs delays nothing that is meant for others."""

from __future__ import annotations

import signal
import time

import pytest

from tests.support.caller import Caller
from tests.support.cluster_rig import ClusterRig, post
from tests.support.container_history import ContainerHistory
from tests.support.wire_jobs import sleeper

pytestmark = [pytest.mark.docker, pytest.mark.etcd, pytest.mark.timeout(240)]

SOON = 2.0
"""Seconds; a host that hangs is waited for much longer, by those who want it."""

ROUNDS = 10


def test_a_host_that_hangs(cluster: ClusterRig, history: ContainerHistory) -> None:
    """Batches for others are taken at once all the while; those for it when it goes on, once each."""
    leader = cluster.leader()
    hanging, other = cluster.others(leader)
    hanging.signal(signal.SIGSTOP)
    waiting = [
        *(Caller(leader, {hanging.host_id: [sleeper()]}) for _ in range(3)),
        Caller(leader, {hanging.host_id: [sleeper()], other.host_id: [sleeper()]}),
    ]
    took = []
    for _ in range(ROUNDS):
        for hosts in ([other], [leader], [leader, other]):
            batch = {host.host_id: [sleeper()] for host in hosts}
            began = time.monotonic()
            assert post(leader.api, batch).status == 200
            took.append(time.monotonic() - began)
    print(f"{len(took)} batches for others took {max(took):.2f} s at most")
    assert max(took) < SOON
    assert all(caller.waits for caller in waiting)
    hanging.signal(signal.SIGCONT)
    for caller in waiting:
        caller.wait()
        assert caller.answer is not None
        assert caller.answer.status == 200, caller.answer.body
    cluster.agreed()
    cluster.at_rest()
    assert [len(history.started(job_id)) for caller in waiting for job_id in caller.jobs] == [1] * 5


def test_a_host_that_hangs_for_long(cluster: ClusterRig, history: ContainerHistory) -> None:
    """Who wants it is told in time, job by job; repeated when it is back, each job is run once."""
    leader = cluster.leader()
    hanging, other = cluster.others(leader)
    hanging.signal(signal.SIGSTOP)
    alone = Caller(leader, {hanging.host_id: [sleeper(), sleeper()]})
    across = Caller(leader, {hanging.host_id: [sleeper()], other.host_id: [sleeper()]})
    for caller in (alone, across):
        caller.wait(within=40)
        assert caller.answer is not None
        print(f"told after {caller.took:.2f} s: {caller.answer.status} {caller.answer.json['message']}")
    assert alone.answer is not None and across.answer is not None
    assert alone.answer.status == 504
    assert alone.answer.json["detail"]["outcomes"] == dict.fromkeys(alone.jobs, "unknown")
    assert across.answer.status == 409
    assert across.answer.json["detail"]["host_id"] == hanging.host_id
    assert across.batch[other.host_id][0]["id"] not in other.api.jobs()
    hanging.signal(signal.SIGCONT)
    cluster.whole()
    for caller in (alone, across):
        assert post(leader.api, caller.batch).status == 200
    cluster.agreed()
    cluster.at_rest()
    assert [len(history.started(job_id)) for job_id in (*alone.jobs, *across.jobs)] == [1] * 4
