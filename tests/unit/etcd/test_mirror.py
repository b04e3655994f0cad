"""A mirror of keys of etcd, on an etcd in memory."""

from __future__ import annotations

import random
from typing import Any

import pytest
from twisted.internet.defer import CancelledError
from twisted.internet.task import Clock

from flynnhost.errors import PermissionDenied
from flynnhost.etcd.mirror import Mirror
from flynnhost.keyvalues import Compare, Delete, KeyRange, KeyValue, Put
from flynnhost.testing.etcd import FakeEtcd, turn


class Listener:
    """Keeps a copy from what it is told."""

    def __init__(self) -> None:
        self.told: list[str] = []
        self.copy: dict[bytes, bytes] = {}

    def key_changed(self, kv: KeyValue, previous: KeyValue | None) -> None:
        assert self.copy.get(kv.key) == (previous.value if previous else None)
        self.copy[kv.key] = kv.value
        self.told.append(f"{kv.key.decode()}={kv.value.decode()}")

    def key_removed(self, previous: KeyValue) -> None:
        assert self.copy.pop(previous.key) == previous.value
        self.told.append(f"-{previous.key.decode()}")

    def mirror_synced(self) -> None:
        self.told.append("synced")

    def mirror_stale(self, reason: str) -> None:
        self.told.append("stale")

    def take(self) -> list[str]:
        told, self.told = self.told, []
        return told


class Rig:
    def __init__(self) -> None:
        self.clock = Clock()
        self.etcd = FakeEtcd(self.clock)
        self.writer = self.etcd.client("writer")
        self.client = self.etcd.client("mirror", silence=5.0)
        self.listener = Listener()
        self.mirror = Mirror(
            self.clock, self.client, KeyRange.prefix(b"p/"), self.listener, random.Random(1).random
        )

    def run(self, seconds: float = 0.05) -> None:
        turn(self.clock, seconds)

    def do(self, *operations: Put | Delete, compares: tuple[Compare, ...] = ()) -> None:
        self.writer.txn(compares, operations)
        self.run()

    def compact(self) -> None:
        if self.etcd.store.compacted < self.etcd.store.revision:
            self.etcd.compact()

    def there(self) -> dict[bytes, bytes]:
        assert {key: kv.value for key, kv in self.mirror.values.items()} == self.listener.copy
        return self.listener.copy


@pytest.fixture
def rig() -> Rig:
    return Rig()


@pytest.fixture
def following(rig: Rig) -> Rig:
    rig.do(Put(b"p/a", b"1"), Put(b"q", b"not ours"))
    rig.mirror.start()
    rig.run()
    assert rig.listener.take() == ["p/a=1", "synced"]
    return rig


def test_follows(following: Rig) -> None:
    """What was there is listed, and what changes is told, of this prefix only."""
    following.do(Put(b"p/b", b"2"), Put(b"p/a", b"3"), Put(b"q", b"4"))
    following.do(Delete(b"p/a"))
    following.do(Delete(b"p/none"))
    assert following.listener.take() == ["p/b=2", "p/a=3", "-p/a"]
    assert following.there() == {b"p/b": b"2"}
    assert following.mirror.revision == 4


def test_nothing_is_told_early(rig: Rig) -> None:
    """Until etcd has answered the mirror is not synced, and it tries until etcd does."""
    rig.etcd.stop()
    rig.mirror.start()
    waiting = rig.mirror.when_synced()
    rig.run(60)
    assert not waiting.called
    assert not rig.mirror.synced
    assert rig.client.calls < 15
    rig.etcd.start()
    rig.run(16)
    assert waiting.called
    assert rig.mirror.when_synced().called
    assert rig.listener.take() == ["synced"]


def test_catches_up(following: Rig) -> None:
    """What changed while etcd was out of reach is told when it is back, and only its outcome."""
    following.do(Put(b"p/gone", b"1"))
    following.listener.take()
    following.client.partition()
    following.run(6)
    assert following.listener.take() == ["stale"]
    assert not following.mirror.synced
    following.do(Put(b"p/a", b"2"))
    following.do(Put(b"p/a", b"3"), Delete(b"p/gone"), Put(b"p/new", b"1"))
    following.client.heal()
    following.run(20)
    told = following.listener.take()
    assert told[-1] == "synced"
    assert following.there() == {b"p/a": b"3", b"p/new": b"1"}
    assert following.mirror.synced


def test_lists_again_after_a_compaction(following: Rig) -> None:
    """When the changes that were missed are forgotten, the list says what became of the keys."""
    following.do(Put(b"p/gone", b"1"))
    following.listener.take()
    following.client.partition()
    following.run(6)
    following.do(Put(b"p/a", b"2"))
    following.do(Delete(b"p/gone"))
    following.do(Put(b"q", b"x"))
    following.etcd.compact()
    following.client.heal()
    following.run(20)
    assert set(following.listener.take()) == {"stale", "-p/gone", "p/a=2", "synced"}
    assert following.there() == {b"p/a": b"2"}
    following.do(Put(b"p/a", b"3"))
    assert following.listener.take() == ["p/a=3"]


def test_a_compaction_that_is_noticed_late(following: Rig) -> None:
    """When a watch learns of a compaction after all was listed, the mirror does not become stale again."""
    following.client.partition()
    following.run(6)
    following.do(Put(b"p/a", b"2"))
    following.etcd.compact()
    following.client.heal()
    following.run(20)
    assert following.listener.take() == ["stale", "p/a=2", "synced"]
    following.do(Put(b"p/a", b"3"))
    assert following.listener.take() == ["p/a=3"]


def test_a_key_that_was_replaced(following: Rig) -> None:
    """A key that was removed and made again unseen counts as changed, with the same value too."""
    following.client.partition()
    following.run(6)
    following.do(Delete(b"p/a"))
    following.do(Put(b"p/a", b"1"))
    following.etcd.compact()
    following.client.heal()
    following.run(20)
    assert "p/a=1" in following.listener.take()


def test_a_change_of_leader(following: Rig) -> None:
    """While etcd has no leader the mirror is stale; after it nothing is missing."""
    following.etcd.lose_leader(1.5)
    following.run(1)
    assert following.listener.take() == ["stale"]
    following.run(5)
    assert following.listener.take() == ["synced"]
    following.do(Put(b"p/b", b"2"))
    assert following.listener.take() == ["p/b=2"]


def test_a_store_that_went_back(following: Rig) -> None:
    """When etcd comes back from a backup, with lower revisions, the list counts and not what was known."""
    following.do(Put(b"p/a", b"2"))
    following.do(Put(b"p/b", b"2"))
    following.listener.take()
    following.mirror.watch_ended(PermissionDenied("for now"))
    following.etcd.store = type(following.etcd.store)(changed=following.etcd._changed)
    following.do(Put(b"p/a", b"restored"))
    following.run(10)
    following.do(Put(b"p/c", b"3"))
    assert following.there() == {b"p/a": b"restored", b"p/c": b"3"}


def test_refused(following: Rig) -> None:
    """A watch that is refused is tried again without haste."""
    following.mirror.watch_ended(PermissionDenied("no"))
    calls = following.client.calls
    following.run(4.9)
    assert following.client.calls == calls
    assert following.listener.take() == ["stale"]
    following.run(1)
    assert following.listener.take() == ["synced"]


def test_a_listener_that_fails(following: Rig, logged_failures: Any) -> None:
    """A listener that raises is logged, and told the rest."""
    following.listener.copy.clear()  # makes its own checks fail
    following.do(Put(b"p/a", b"2"), Put(b"p/b", b"1"))
    assert following.listener.take() == ["p/b=1"]
    assert len(logged_failures.flush(AssertionError)) == 1


def test_stopped(following: Rig) -> None:
    """After the stop nothing is told, nothing runs, and those who waited are released."""
    following.client.partition()
    following.run(6)
    released: list[Any] = []
    following.mirror.when_synced().addErrback(released.append)
    following.listener.take()
    assert following.mirror.stop().called
    following.client.heal()
    following.do(Put(b"p/a", b"2"))
    following.run(20)
    assert following.listener.take() == []
    assert released[0].check(CancelledError)
    assert following.clock.getDelayedCalls() == []


@pytest.mark.parametrize("told", ["key_changed", "key_removed", "mirror_synced", "mirror_stale"])
def test_stopped_from_within(rig: Rig, told: str) -> None:
    """A listener may stop the mirror from within whatever it is told, and is told nothing more."""
    stopped: list[Any] = []

    def stop(*_: Any) -> None:
        rig.listener.told.append("stop")
        stopped.append(rig.mirror.stop())

    setattr(rig.listener, told, stop)
    rig.do(Put(b"p/a", b"1"), Put(b"p/b", b"1"))
    rig.mirror.start()
    rig.run()
    rig.do(Delete(b"p/a"), Delete(b"p/b"))
    rig.etcd.lose_leader(1)
    rig.run(20)
    assert rig.listener.told[-1] == "stop"
    assert rig.listener.told.count("stop") == 1
    assert stopped[0].called
    assert rig.clock.getDelayedCalls() == []


@pytest.mark.parametrize("seed", range(30))
def test_any_course_of_events(seed: int) -> None:
    """Whatever happens to etcd and the way to it, the mirror ends up with what is there."""
    rig, chance = Rig(), random.Random(seed)
    rig.client.latency = chance.choice([0.001, 0.05, 0.4])
    rig.mirror.start()
    for _ in range(60):
        key = b"p/%d" % chance.randrange(5)
        deeds: list[Any] = [
            lambda key=key: rig.writer.put(key, b"%d" % chance.randrange(3)),
            lambda key=key: rig.writer.delete(key),
            lambda: rig.client.partition(answers=chance.random() < 0.8),
            rig.client.heal,
            rig.client.heal,
            rig.compact,
            lambda: rig.etcd.lose_leader(chance.random() * 3),
            rig.etcd.pause,
            rig.etcd.go_on,
            rig.etcd.go_on,
        ]
        done = chance.choice(deeds)()
        if hasattr(done, "addErrback"):
            done.addErrback(lambda _: None)
        rig.run(chance.choice([0.0, 0.01, 0.3, 4.0]))
    rig.client.heal()
    rig.etcd.go_on()
    rig.run(40)
    truth = {key: kv.value for key, kv in rig.etcd.store._keys.items()}
    assert rig.mirror.synced
    assert rig.there() == truth
    assert rig.mirror.stop().called
