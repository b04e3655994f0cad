"""Whichever host is asked about the cluster, the leader answers."""

from __future__ import annotations

import signal
from collections.abc import Callable
from functools import partial

import pytest

from tests.support.caller import Caller
from tests.support.cluster_rig import ClusterRig, leading, post
from tests.support.event_reader import EventReader
from tests.support.host_process import HostProcess
from tests.support.waiting import wait_until
from tests.support.wire_jobs import sleeper

pytestmark = [pytest.mark.docker, pytest.mark.etcd, pytest.mark.timeout(240)]

LARGE = 20_000

BUSY = 3.0
"""Seconds that are added to what is promised, for a machine that does other things too."""


def follow(host: HostProcess) -> EventReader:
    return EventReader(host.listen_port, "/cluster/events?snapshot=true", address=host.address)


def test_any_host(cluster: ClusterRig) -> None:
    """Jobs for all hosts can be handed to each, all lists are the same, and all know who leads."""
    leader = cluster.leader()
    known = leading(leader)
    assert known["id"] == leader.host_id
    for host in cluster.hosts:
        batch = {each.host_id: [sleeper()] for each in cluster.hosts}
        answer = post(host.api, batch)
        assert answer.status == 200
        assert {job["id"] for job in answer.json["jobs"]} == {jobs[0]["id"] for jobs in batch.values()}
        assert leading(host) == known
    lists = [host.api.get("/cluster/hosts").body for host in cluster.hosts]
    assert lists == [lists[0]] * 3


def hangs(host: HostProcess) -> None:
    host.signal(signal.SIGSTOP)


@pytest.mark.parametrize("lose", [HostProcess.kill9, hangs], ids=["killed", "hangs"])
def test_the_leader_goes(cluster: ClusterRig, lose: Callable[[HostProcess], None]) -> None:
    """A stream through another host ends with an error, and a batch is answered; both can be had again."""
    leader = cluster.leader()
    asked, other = cluster.others(leader)
    batch = {each.host_id: [sleeper(env={"LARGE": "x" * LARGE})] for each in (asked, other)}
    with follow(asked) as events:
        events.wait(lambda event: event.name == "current", "all hosts")
        cluster.network.cut(leader.host_id, other.host_id)
        waiting = Caller(asked, batch)
        held = partial(cluster.network.held, leader.host_id, other.host_id)
        wait_until(lambda: held() > LARGE, "the batch to be on its way")
        lose(leader)
        events.wait_end(cluster.ttl + 2 + BUSY)
        waiting.wait(cluster.ttl + 2 + BUSY)
    assert events.events[-1].name == "error"
    assert waiting.answer is not None
    assert (waiting.answer.status, waiting.answer.json["code"]) == (504, "timeout")
    outcomes = dict.fromkeys(waiting.jobs, "unknown")
    assert waiting.answer.json["detail"] == {"outcomes": outcomes}
    cluster.network.heal_all()
    cluster.whole(but=[leader])
    assert post(asked.api, batch).status == 200
    with follow(asked) as events:
        events.wait(lambda event: event.name == "current", "all hosts again")
