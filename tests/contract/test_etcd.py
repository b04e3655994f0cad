"""Real etcd, of one member, keeps the contract of clients of etcd."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred

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


def test_the_options_that_operators_are_told() -> None:
    """etcd knows the options that its page names, and the tests run it with those that matter."""
    page = (Path(__file__).parents[2] / "docs/etcd.md").read_text(encoding="utf-8")
    told = re.search(r"^etcd (--.*) \.\.\.$", page, re.MULTILINE)
    assert told is not None
    help_text = subprocess.run(["etcd", "--help"], capture_output=True, text=True, check=False)
    options = [option.partition("=")[0] for option in told.group(1).split()]
    assert "--pre-vote" in options
    command = EtcdCluster(Path("/nowhere")).command()
    for option in options:
        assert option in help_text.stdout + help_text.stderr
        assert any(argument.startswith(f"{option}=") for argument in command)
