"""Real etcd, of one member, keeps the contract of clients of etcd."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from flynnhost.testing.etcd_contract import EtcdKeysContract, EtcdLeaseContract
from flynnhost.testing.etcd_contract_rig import Recorder
from flynnhost.testing.etcd_contract_watch import EtcdLossContract, EtcdWatchContract
from tests.support.etcd import EtcdCluster
from tests.support.etcd_rig import Proxy, RealRig

pytestmark = pytest.mark.etcd


@pytest.fixture
def rig(etcd: EtcdCluster, clean_reactor: Any) -> Iterator[RealRig]:
    rig = RealRig(clean_reactor, etcd)
    yield rig
    rig.close()


class TestKeys(EtcdKeysContract):
    pass


class TestLeases(EtcdLeaseContract):
    pass


class TestWatches(EtcdWatchContract):
    pass


class ThroughProxy(RealRig):
    """Has its first client behind a proxy, so that it can be cut off alone."""

    through: Proxy

    def client(self, urls: Any = (), **options: Any) -> Any:
        if not self.clients:
            urls = (self.through.url,)
        return super().client(urls, **options)


class TestLoss(EtcdLossContract):
    @pytest.fixture
    def rig(self, etcd: EtcdCluster, clean_reactor: Any) -> Iterator[RealRig]:
        import pytest_twisted
        from twisted.internet.defer import Deferred

        rig = ThroughProxy(clean_reactor, etcd)
        rig.through = pytest_twisted.blockon(Deferred.fromCoroutine(rig.proxy(etcd.members[0])))
        yield rig
        rig.close()

    async def lose_only(self, rig: ThroughProxy, etcd: Any, recorder: Recorder) -> None:
        rig.through.silent = True
        await rig.until(lambda: "lost" in recorder.told, "the loss")

    async def find_again(self, rig: ThroughProxy, etcd: Any) -> None:
        rig.through.cut()
        rig.through.silent = False
