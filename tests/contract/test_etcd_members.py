"""Members that come as learners, and members that go."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from twisted.internet.threads import deferToThread

from flynnhost.errors import EtcdUnavailable
from flynnhost.keyvalues import Get
from flynnhost.testing.etcd_contract_rig import failure
from tests.support.etcd import EtcdCluster
from tests.support.etcd_rig import RealRig
from tests.support.reactor import on_reactor

pytestmark = pytest.mark.etcd


@pytest.fixture
def rig(make_etcd: Callable[..., EtcdCluster], clean_reactor: Any) -> Iterator[RealRig]:
    cluster = make_etcd()
    rig = RealRig(clean_reactor, cluster)
    yield rig
    rig.close()
    cluster.stop()


@on_reactor
async def test_a_learner_and_its_removal(rig: RealRig) -> None:
    """A learner is passed over until it has a vote; a removed member is passed over for good."""
    cluster = rig.cluster
    voter = cluster.members[0]
    client = rig.client()
    await client.put(rig.key("k"), b"1")
    learner = await deferToThread(cluster.add_learner)
    (entry,) = [member for member in await client.members() if member.learner]
    assert (entry.name, entry.client_urls) in {("m1", (learner.url,)), ("", ())}

    only = rig.client([learner.url], timeout=3.0)
    await failure(only.get(rig.key("k")), EtcdUnavailable)
    old = Get(rig.key("k"), serializable=True)
    await rig.until_it(lambda: succeeds(only.get(old)), "the learner to read what it has")
    assert await succeeds(only.status())
    both = rig.client([learner.url, voter.url])
    recorder = await rig.watching(both)
    for number in range(3):
        await both.put(rig.key("k"), b"%d" % number)
    await rig.until(lambda: len(recorder.events) == 3, "the events")

    await deferToThread(cluster.promote, learner)
    await rig.until_it(lambda: succeeds(only.get(rig.key("k"))), "the member to know of its vote")
    await only.put(rig.key("k"), b"with a vote")
    await deferToThread(cluster.remove, learner)
    await rig.until(lambda: learner.process and learner.process.poll() is not None, "the member's end")
    assert learner.process is not None
    assert learner.process.returncode == 0
    await both.put(rig.key("k"), b"last")
    await rig.until(lambda: recorder.values[-1] == b"last", "the last event")
    assert recorder.values.count(b"with a vote") == 1
    await failure(only.put(rig.key("k"), b""), EtcdUnavailable)


async def succeeds(call: Any) -> bool:
    """Whether etcd answers."""
    try:
        await call
    except EtcdUnavailable:
        return False
    return True
