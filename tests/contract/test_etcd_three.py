"""Real etcd, of three members, keeps the contract, and the loss of a member is hardly noticed."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread

from flynnhost.background import Background
from flynnhost.errors import EtcdUnavailable, FlynnHostError
from flynnhost.etcd.clocks import boottime
from flynnhost.etcd.lease import Lease
from flynnhost.keyvalues import Compare
from flynnhost.testing.etcd_contract import EtcdKeysContract, EtcdLeaseContract
from flynnhost.testing.etcd_contract_rig import failure
from flynnhost.testing.etcd_contract_watch import EtcdWatchContract
from tests.support.etcd import EtcdCluster, Member
from tests.support.etcd_rig import RealRig
from tests.support.reactor import on_reactor

pytestmark = pytest.mark.etcd


@pytest.fixture
def rig(etcd_of_three: EtcdCluster, clean_reactor: Any) -> Iterator[RealRig]:
    rig = RealRig(clean_reactor, etcd_of_three)
    yield rig
    rig.close()


class TestKeys(EtcdKeysContract):
    pass


class TestLeases(EtcdLeaseContract):
    pass


class TestWatches(EtcdWatchContract):
    pass


class Holder:
    def __init__(self) -> None:
        self.told: list[str] = []

    def lease_lapsed(self) -> None:
        self.told.append("lapsed")

    def lease_confirmed(self) -> None:
        self.told.append("confirmed")

    def lease_lost(self) -> None:
        self.told.append("lost")


async def leader_of(rig: RealRig) -> Member:
    return await deferToThread(rig.cluster.leader)


async def put_until_done(rig: RealRig, client: Any, key: bytes, value: bytes) -> None:
    """Put, and try again as long as nobody answers."""
    deadline = time.monotonic() + 30
    while True:
        try:
            await client.put(key, value)
            return
        except EtcdUnavailable:
            assert time.monotonic() < deadline
            await rig.pause(0.1)


@on_reactor
async def test_the_leader_is_killed(rig: RealRig) -> None:
    """When etcd's leader is killed a lease of 10 s lives on, and watches have no gap and no repetition."""
    client, writer, holder = rig.client(), rig.client(timeout=3.0), Holder()
    lease = Lease(rig.reactor, boottime, client, holder, 10)
    await lease.begin()
    await client.put(rig.key("mine"), b"", lease.id)
    recorder = await rig.watching(client, keys=rig.key("k"))
    write = Background("the writes")
    done: list[int] = []

    async def write_on() -> None:
        for number in range(40):
            await put_until_done(rig, writer, rig.key("k"), b"%d" % number)
            done.append(number)
            await rig.pause(0.05)

    written = write.run(write_on(), "writing")
    await rig.until(lambda: len(done) >= 5, "the first writes")
    rig.kill(await leader_of(rig))
    await written
    await rig.until(lambda: recorder.values and recorder.values[-1] == b"39", "the last event")
    # A put that was tried twice is two events: retries are at least once. But none is told twice.
    numbers = [int(value or b"-1") for value in recorder.values]
    assert sorted(set(numbers)) == list(range(40))
    assert numbers == sorted(numbers)
    revisions = [event.kv.mod_revision for event in recorder.events]
    assert revisions == sorted(set(revisions))
    assert "lost" not in holder.told
    assert (await client.get(rig.key("mine"))).count == 1
    await lease.revoke()
    assert (await client.get(rig.key("mine"))).count == 0


@on_reactor
async def test_a_member_is_killed(rig: RealRig) -> None:
    """When the member that a watch hangs on is killed the watch goes on at another at once."""
    (member, *_) = await deferToThread(rig.cluster.followers)
    others = [each.url for each in rig.cluster.members if each is not member]
    through = await rig.proxy(member)
    client = rig.client([through.url])
    recorder = await rig.watching(client)
    client.use_endpoints([through.url, *others])
    rig.kill(member)
    await rig.until(lambda: recorder.told == ["connected", "lost", "connected"], "another member", within=5)
    await client.put(rig.key("k"), b"1")
    await rig.until(lambda: recorder.events, "the event")


@on_reactor
async def test_a_member_hangs(rig: RealRig) -> None:
    """When a member hangs one call takes longer, and those after it are quick again."""
    (member, *_) = await deferToThread(rig.cluster.followers)
    others = [each.url for each in rig.cluster.members if each is not member]
    client = rig.client([member.url], timeout=4.0)
    lease = (await client.grant(60)).lease
    client.use_endpoints([member.url, *others])
    rig.stop(member)
    await client.put(rig.key("k"), b"1")
    began = time.monotonic()
    await client.put(rig.key("k"), b"2")
    assert await client.keep_alive_once(lease, 2.0) == 60
    assert time.monotonic() - began < 1.5


@on_reactor
async def test_an_isolated_member(rig: RealRig) -> None:
    """A member that has lost the others says so at once instead of keeping calls and watches waiting."""
    alone, *others = rig.cluster.members
    client = rig.client([alone.url], timeout=3.0, silence=60.0)
    recorder = await rig.watching(client)
    for member in others:
        rig.stop(member)

    # It takes a moment until the member knows. In that time too nothing is answered that
    # etcd as a whole may not agree to, a bare condition neither.
    bare = client.txn([Compare(b"k", "version", "==", 0)])
    await failure(client.get(b"k"), EtcdUnavailable)
    await failure(bare, EtcdUnavailable)
    began = time.monotonic()
    await failure(client.get(b"k"), EtcdUnavailable)
    await failure(client.put(b"k", b""), EtcdUnavailable)
    await failure(client.grant(5), EtcdUnavailable)
    assert time.monotonic() - began < 1.0
    await rig.until(lambda: "lost" in recorder.told, "the watch's end")
    assert not recorder.connected
    assert (await client.status()).leader == 0


@on_reactor
async def test_calls_while_members_come_and_go(rig: RealRig) -> None:
    """Whatever happens to members, calls fail with our own errors only, and etcd is there again after."""
    client = rig.client(timeout=2.0)
    outcomes: list[str] = []

    async def call() -> None:
        try:
            await client.put(rig.key("k"), b"")
            outcomes.append("done")
        except FlynnHostError as e:
            outcomes.append(type(e).__name__)

    for trouble in (rig.kill, rig.stop):
        trouble(rig.cluster.members[1])
        calls = [Deferred.fromCoroutine(call()) for _ in range(20)]
        for each in calls:
            await each
        await rig.come_back()
    await put_until_done(rig, client, rig.key("k"), b"after")
    assert set(outcomes) <= {"done", "EtcdUnavailable"}
    assert len(outcomes) == 40
