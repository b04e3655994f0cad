"""Keys that are kept, on an etcd in memory."""

from __future__ import annotations

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from flynnhost.etcd.kept import KeptKeys
from flynnhost.keyvalues import Compare, Found, Put, TxnResult
from flynnhost.testing.etcd import FakeEtcd, FakeEtcdClient, turn


class Rig:
    """A key that is looked at every 10 s."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.etcd = FakeEtcd(self.clock)
        self.client: FakeEtcdClient = self.etcd.client()
        self.other = self.etcd.client("other")
        self.lease = 0
        self.writes = 0
        self.kept = KeptKeys(
            self.clock,
            self.client,
            "the key",
            [Compare(b"k", "value", "==", b"v")],
            self.write,
            10.0,
            lambda: 0.0,
        )

    def write(self) -> Deferred[TxnResult]:
        self.writes += 1
        return self.client.txn([], [Put(b"k", b"v", self.lease)])

    def run(self, seconds: float = 0.1) -> None:
        turn(self.clock, seconds)

    @property
    def value(self) -> bytes | None:
        found: list[Found] = []
        self.other.get(b"k").addCallback(found.append)
        self.run(0.01)
        return found[0].values[0].value if found[0].values else None


@pytest.fixture
def rig() -> Rig:
    rig = Rig()
    rig.kept.start()
    rig.run()
    return rig


def test_written_once(rig: Rig) -> None:
    """The key is written at once, and not again while it is there."""
    assert rig.value == b"v"
    rig.run(100)
    assert rig.writes == 1


def test_not_watched_but_looked_at(rig: Rig) -> None:
    """A look costs one call."""
    calls = rig.client.calls
    rig.run(100)
    assert rig.client.calls - calls == pytest.approx(10, abs=1)


def test_removed(rig: Rig) -> None:
    """A key that somebody has removed or changed is there again after the next look."""
    rig.other.delete(b"k")
    rig.run(9)
    assert rig.value is None
    rig.run(1.5)
    assert rig.value == b"v"
    rig.other.put(b"k", b"x")
    rig.run(10.5)
    assert rig.value == b"v"
    assert rig.writes == 3


def test_looks_when_told(rig: Rig) -> None:
    """Who knows that the key was touched need not wait for the next look."""
    rig.other.delete(b"k")
    rig.run(0.01)
    rig.kept.look()
    rig.run()
    assert rig.value == b"v"


def test_told_while_it_writes() -> None:
    """What happens while the key is being written is seen right after."""
    rig = Rig()
    rig.client.latency = 1.0
    rig.kept.start()
    rig.run(1.5)  # it is written, but the answer is on its way
    rig.other.delete(b"k")
    rig.kept.look()
    rig.run(5)
    assert rig.value == b"v"


def test_etcd_does_not_answer() -> None:
    """While etcd is gone it is tried again, ever less often."""
    rig = Rig()
    rig.etcd.stop()
    rig.kept.start()
    rig.run(60)
    assert 10 < rig.writes < 40
    rig.etcd.start()
    rig.run(6)
    assert rig.value == b"v"


def test_answer_is_lost() -> None:
    """What was written but not answered is written again, which does no harm."""
    rig = Rig()
    rig.client.lose_answers(2)
    rig.kept.start()
    rig.run(12)
    assert rig.value == b"v"
    assert rig.writes == 3


def test_lease_is_gone() -> None:
    """What can't be written because its lease has ended is left to whoever has the lease."""
    rig = Rig()
    rig.lease = 4711
    rig.kept.start()
    rig.run(5)
    assert rig.value is None
    assert rig.writes == 1


def test_stopped(rig: Rig) -> None:
    """Nothing is done after the end, and what goes on then is ended."""
    rig.etcd.stop()
    rig.run(10.5)
    stopped = rig.kept.stop()
    assert stopped.called
    rig.etcd.start()
    rig.other.delete(b"k")
    rig.kept.look()
    rig.run(60)
    assert rig.value is None
    assert rig.writes == 1
    assert not rig.clock.getDelayedCalls()
