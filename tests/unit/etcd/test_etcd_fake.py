"""The etcd in memory keeps the contract of clients of etcd, and does what tests tell it."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from flynnhost.errors import EtcdUnavailable
from flynnhost.keyvalues import Compare, Get, Put
from flynnhost.testing.etcd import FakeEtcd, FakeEtcdClient, turn
from flynnhost.testing.etcd_contract import EtcdKeysContract, EtcdLeaseContract
from flynnhost.testing.etcd_contract_rig import LossRig, Recorder, contract, failure
from flynnhost.testing.etcd_contract_watch import EtcdLossContract, EtcdWatchContract


class FakeRig(LossRig):
    prefix = b"test/"

    def __init__(self, latency: float) -> None:
        self.clock = self._clock = Clock()
        self.latency = latency
        self.etcd = FakeEtcd(self._clock, progress=0.5)
        self.clients: list[FakeEtcdClient] = []

    def run(self, test: Coroutine[Any, Any, None]) -> None:
        ended: list[Failure | None] = []
        Deferred.fromCoroutine(test).addBoth(ended.append)
        for _ in range(1000):
            if ended:
                break
            turn(self._clock, 0.1)
        (result,) = ended
        if result is not None:
            result.raiseException()
        for client in self.clients:
            client.close()
        turn(self._clock, 200)
        assert self._clock.getDelayedCalls() == []

    def client(self, **options: Any) -> FakeEtcdClient:
        client = self.etcd.client(latency=self.latency, **options)
        self.clients.append(client)
        return client

    async def compact(self, revision: int) -> None:
        self.etcd.compact(revision)

    def go_down(self) -> None:
        self.etcd.stop()

    def hang(self) -> None:
        self.etcd.pause()

    async def come_back(self) -> None:
        self.etcd.start()
        self.etcd.go_on()


@pytest.fixture(params=[0.0, 0.02])
def rig(request: pytest.FixtureRequest) -> FakeRig:
    return FakeRig(request.param)


class TestKeys(EtcdKeysContract):
    pass


class TestLeases(EtcdLeaseContract):
    pass


class TestWatches(EtcdWatchContract):
    pass


class TestLoss(EtcdLossContract):
    async def lose_only(self, rig: FakeRig, etcd: FakeEtcdClient, recorder: Recorder) -> None:
        etcd.partition()
        await rig.until(lambda: "lost" in recorder.told, "the loss")

    async def find_again(self, rig: FakeRig, etcd: FakeEtcdClient) -> None:
        etcd.heal()


class TestTroubles:
    @contract
    async def test_nothing_is_answered_at_once(self, rig: FakeRig) -> None:
        """No call is answered before it returns, and no listener is called from within a call."""
        etcd = rig.client()
        recorder = rig.watch(etcd)
        call = etcd.put(rig.key("k"), b"")
        assert not call.called
        assert recorder.told == []
        await call

    @contract
    async def test_lost_answers(self, rig: FakeRig) -> None:
        """What was done but not answered fails at its deadline, and was done."""
        etcd = rig.client(timeout=2.0)
        etcd.lose_answers(1)
        began = rig.clock.seconds()
        await failure(etcd.put(rig.key("k"), b"1"), EtcdUnavailable)
        assert rig.clock.seconds() - began == pytest.approx(2.0, abs=0.01)
        assert (await etcd.get(rig.key("k"))).values[0].value == b"1"

    @contract
    async def test_repeated_requests(self, rig: FakeRig) -> None:
        """A transaction that was done twice fails its own condition; its failure branch shows why."""
        etcd = rig.client()
        etcd.repeat_requests(1)
        key = rig.key("k")
        result = await etcd.txn([Compare(key, "create", "==", 0)], [Put(key, b"mine")], [Get(key)])
        assert not result.succeeded
        (found,) = result.results
        assert [kv.value for kv in getattr(found, "values", ())] == [b"mine"]

    @contract
    async def test_one_way_partitions(self, rig: FakeRig) -> None:
        """Requests can be lost with nothing done, or answers with everything done."""
        etcd, other = rig.client(timeout=1.0), rig.client()
        etcd.partition(answers=False)
        await failure(etcd.put(rig.key("requests"), b""), EtcdUnavailable)
        etcd.heal()
        etcd.partition(requests=False)
        await failure(etcd.put(rig.key("answers"), b""), EtcdUnavailable)
        assert [kv.key for kv in (await other.get(rig.keys)).values] == [rig.key("answers")]

    @contract
    async def test_change_of_leader(self, rig: FakeRig) -> None:
        """Without a leader calls fail soon, watches end, and no lease does; the next one renews them all."""
        etcd = rig.client()
        lease = (await etcd.grant(5)).lease
        recorder = await rig.watching(etcd)
        await rig.pause(4)
        rig.etcd.lose_leader(3)
        await failure(etcd.get(rig.key("k")), EtcdUnavailable)
        assert (await etcd.status()).version
        assert (await etcd.get(Get(rig.key("k"), serializable=True))).count == 0
        await rig.pause(3.2)
        assert (await etcd.time_to_live(lease)).remaining == 4
        await rig.until(lambda: recorder.connected, "the watch")
        assert recorder.told == ["connected", "lost", "connected"]

    @contract
    async def test_pause(self, rig: FakeRig) -> None:
        """What was asked of a paused etcd is done when it goes on, though the asker gave up."""
        etcd = rig.client(timeout=1.0)
        rig.hang()
        await failure(etcd.put(rig.key("k"), b"late"), EtcdUnavailable)
        await rig.come_back()
        await rig.pause(0.1)
        assert (await etcd.get(rig.key("k"))).values[0].value == b"late"

    @contract
    async def test_a_live_lease_revoked(self, rig: FakeRig) -> None:
        """A lease can be ended though it is alive, as some versions of etcd do by mistake."""
        etcd = rig.client()
        lease = (await etcd.grant(60)).lease
        await etcd.put(rig.key("k"), b"", lease)
        recorder = await rig.watching(etcd)
        rig.etcd.revoke(lease)
        await rig.until(lambda: recorder.events, "the removal")
        assert recorder.values == [None]
