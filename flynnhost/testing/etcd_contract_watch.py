# ruff: noqa: S101 - these are tests
"""What every client of etcd keeps to: watches, and what is left when etcd is lost."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

from twisted.internet.defer import Deferred, gatherResults

from flynnhost.errors import (
    Compacted,
    EtcdUnavailable,
)
from flynnhost.keyvalues import (
    KeyEvent,
    KeyValue,
    Put,
)
from flynnhost.testing.etcd_contract_rig import EtcdRig, LossRig, Recorder, contract, failure


class EtcdWatchContract:
    """Watches. Subclasses have a fixture ``rig`` that gives an ``EtcdRig``."""

    @contract
    async def test_changes(self, rig: EtcdRig) -> None:
        """Puts and removals are told in order, with what was before, and of these keys only."""
        etcd = rig.client()
        recorder = await rig.watching(etcd)
        lease = (await etcd.grant(60)).lease
        first = (await etcd.put(rig.key("a"), b"1", lease)).revision
        second = (await etcd.put(rig.key("a"), b"")).revision
        await etcd.put(b"not-" + rig.prefix, b"")
        third = (await etcd.delete(rig.key("a"))).revision
        await rig.until(lambda: len(recorder.events) == 3, "the events")
        one = KeyValue(rig.key("a"), b"1", first, first, 1, lease)
        two = KeyValue(rig.key("a"), b"", first, second, 2)
        assert recorder.events[0] == KeyEvent(one)
        assert recorder.events[1] == KeyEvent(two, previous=one)
        gone = recorder.events[2]
        assert (gone.removed, gone.kv.key, gone.kv.mod_revision) == (True, rig.key("a"), third)
        assert gone.previous == two
        assert recorder.revision == third
        await etcd.delete(b"not-" + rig.prefix)
        await recorder.watch.stop()

    @contract
    async def test_one_key(self, rig: EtcdRig) -> None:
        """One key can be watched, and keys that begin like it are not told."""
        etcd = rig.client()
        recorder = await rig.watching(etcd, keys=rig.key("k"))
        await etcd.put(rig.key("kk"), b"no")
        await etcd.put(rig.key("k"), b"yes")
        await rig.until(lambda: recorder.events, "the event")
        assert recorder.values == [b"yes"]

    @contract
    async def test_from_a_revision(self, rig: EtcdRig) -> None:
        """A watch tells what happened before it began, from the revision that it is given."""
        etcd = rig.client()
        revisions = [(await etcd.put(rig.key("k"), b"%d" % n)).revision for n in range(5)]
        recorder = rig.watch(etcd, revisions[2])
        await rig.until(lambda: len(recorder.events) == 3, "the past")
        await etcd.put(rig.key("k"), b"5")
        await rig.until(lambda: len(recorder.events) == 4, "the present")
        assert recorder.values == [b"2", b"3", b"4", b"5"]

    @contract
    async def test_list_and_watch(self, rig: EtcdRig) -> None:
        """Listing, and watching from the revision after, misses nothing and tells nothing twice."""
        etcd, writer = rig.client(), rig.client()
        writes = gatherResults([writer.put(rig.key(f"{n}"), b"") for n in range(50)])
        listed = await etcd.get(rig.keys)
        recorder = rig.watch(etcd, listed.revision + 1)
        await writes
        await rig.until(lambda: len(listed.values) + len(recorder.events) >= 50, "all keys")
        names = [kv.key for kv in listed.values] + [event.kv.key for event in recorder.events]
        assert len(names) == len(set(names)) == 50

    @contract
    async def test_a_transaction_is_told_whole(self, rig: EtcdRig) -> None:
        """What was done at once is told at once."""
        etcd = rig.client()
        recorder = await rig.watching(etcd)
        done = await etcd.txn([], [Put(rig.key(f"{n}"), b"") for n in range(20)])
        await rig.until(lambda: recorder.events, "the events")
        assert len(recorder.events) == 20
        assert {event.kv.mod_revision for event in recorder.events} == {done.revision}

    @contract
    async def test_large_values(self, rig: EtcdRig) -> None:
        """Events far longer than a packet or a line arrive whole."""
        etcd = rig.client()
        recorder = await rig.watching(etcd)
        values = [b"%d" % n * 20_000 for n in range(10)] + [b"x" * 1_000_000]
        for n, value in enumerate(values):
            await etcd.put(rig.key(f"{n}"), value)
        await rig.until(lambda: len(recorder.events) == len(values), "the events")
        assert recorder.values == values

    @contract
    async def test_compacted(self, rig: EtcdRig) -> None:
        """A watch that can't tell what it should, since it is forgotten, ends and says so."""
        etcd = rig.client()
        first = (await etcd.put(rig.key("k"), b"1")).revision
        last = (await etcd.put(rig.key("k"), b"2")).revision
        await rig.compact(last)
        recorder = rig.watch(etcd, first)
        await rig.until(lambda: recorder.error, "the end")
        assert isinstance(recorder.error, Compacted)
        assert recorder.error.revision == last
        assert recorder.told[-1] == "ended"
        assert recorder.events == []
        await recorder.watch.stop()

    @contract
    async def test_stopped(self, rig: EtcdRig) -> None:
        """After the stop nothing is told; stopping again does no harm."""
        etcd = rig.client()
        recorder = await rig.watching(etcd)
        await recorder.watch.stop()
        await etcd.put(rig.key("k"), b"1")
        await rig.pause(0.2)
        assert (recorder.events, recorder.told) == ([], ["connected"])
        await recorder.watch.stop()

    @contract
    async def test_stopped_from_within(self, rig: EtcdRig) -> None:
        """A listener may stop its watch, and is told nothing more then."""
        etcd = rig.client()
        recorder = await rig.watching(etcd)
        stopped: list[Deferred[None]] = []
        recorder.on_events = lambda: stopped.append(recorder.watch.stop())
        await etcd.put(rig.key("k"), b"1")
        await etcd.put(rig.key("k"), b"2")
        await rig.until(lambda: stopped, "the stop")
        await stopped[0]
        await rig.pause(0.2)
        assert recorder.values == [b"1"]

    @contract
    async def test_signs_of_life(self, rig: EtcdRig) -> None:
        """A watch that has nothing to tell says up to which revision there was nothing."""
        etcd = rig.client()
        recorder = await rig.watching(etcd)
        other = (await etcd.put(b"not-" + rig.prefix, b"")).revision
        await rig.until(lambda: recorder.revision >= other, "a sign of life")
        assert recorder.events == []
        assert recorder.signs_of_life >= 1
        await etcd.delete(b"not-" + rig.prefix)

    @contract
    async def test_many_watches(self, rig: EtcdRig) -> None:
        """Many watches of a client don't hold up each other or its calls."""
        etcd = rig.client()
        recorders = [rig.watch(etcd, keys=rig.key(f"{n}")) for n in range(50)]
        await rig.until(lambda: all(each.connected for each in recorders), "the watches")
        await gatherResults([etcd.put(rig.key(f"{n}"), b"%d" % n) for n in range(50)])
        await rig.until(lambda: all(each.events for each in recorders), "the events")
        assert [each.values for each in recorders] == [[b"%d" % n] for n in range(50)]


class EtcdLossContract:
    """What is left when etcd is lost. Subclasses have a fixture ``rig`` that gives a ``LossRig``."""

    @contract
    async def test_down(self, rig: LossRig) -> None:
        """While etcd is down calls fail soon, and work again when it is back."""
        etcd = rig.client(timeout=3.0)
        await etcd.put(rig.key("k"), b"1")
        rig.go_down()
        began = rig.clock.seconds()
        await failure(etcd.get(rig.key("k")), EtcdUnavailable)
        assert rig.clock.seconds() - began < 2
        await rig.come_back()
        assert (await etcd.get(rig.key("k"))).values[0].value == b"1"

    @contract
    async def test_hanging(self, rig: LossRig) -> None:
        """While etcd hangs each call fails at its deadline; a keep-alive has its own."""
        etcd = rig.client(timeout=1.0)
        lease = (await etcd.grant(60)).lease
        rig.hang()
        began = rig.clock.seconds()
        await failure(etcd.keep_alive_once(lease, 0.3), EtcdUnavailable)
        assert 0.25 < rig.clock.seconds() - began < 0.9
        calls = [Deferred.fromCoroutine(failure(etcd.get(b"k"), EtcdUnavailable)) for _ in range(100)]
        await gatherResults(calls)
        assert rig.clock.seconds() - began < 4
        await rig.come_back()
        assert await etcd.keep_alive_once(lease, 5.0) == 60

    @contract
    async def test_watch_goes_on(self, rig: LossRig) -> None:
        """A watch goes on where it was when etcd is back: nothing is missed, and nothing is told twice."""
        etcd, writer = rig.client(), rig.client()
        await writer.put(rig.key("k"), b"0")
        recorder = await rig.watching(etcd)
        await writer.put(rig.key("k"), b"1")
        await rig.until(lambda: recorder.events, "the first event")
        rig.go_down()
        await rig.until(lambda: recorder.told == ["connected", "lost"], "the loss")
        await rig.come_back()
        await writer.put(rig.key("k"), b"2")
        await writer.delete(rig.key("k"))
        await rig.until(lambda: len(recorder.events) >= 3, "the other events")
        await writer.put(rig.key("k"), b"3")
        await rig.until(lambda: len(recorder.events) >= 4, "the last event")
        assert recorder.values == [b"1", b"2", None, b"3"]
        assert recorder.told == ["connected", "lost", "connected"]

    @contract
    async def test_watch_that_hears_nothing(self, rig: LossRig) -> None:
        """A watch notices that etcd hangs when its signs of life stay away, and goes on afterwards."""
        etcd = rig.client(silence=1.5)
        recorder = await rig.watching(etcd)
        await rig.pause(2)
        assert recorder.told == ["connected"]
        rig.hang()
        await rig.until(lambda: "lost" in recorder.told, "the loss")
        await rig.come_back()
        await rig.client().put(rig.key("k"), b"1")
        await rig.until(lambda: recorder.events, "the event")
        assert recorder.values == [b"1"]

    @contract
    async def test_compacted_while_away(self, rig: LossRig) -> None:
        """A watch that comes back to find its next revisions forgotten says so, instead of skipping them."""
        etcd, writer = rig.client(silence=1.0), rig.client()
        await writer.put(rig.key("k"), b"1")
        recorder = await rig.watching(etcd)
        await self.lose_only(rig, etcd, recorder)
        await writer.put(rig.key("k"), b"2")
        last = (await writer.put(rig.key("k"), b"3")).revision
        await rig.compact(last)
        await self.find_again(rig, etcd)
        await rig.until(lambda: recorder.error, "the end")
        assert isinstance(recorder.error, Compacted)
        assert recorder.error.revision == last
        assert recorder.events == []

    @abstractmethod
    async def lose_only(self, rig: Any, etcd: Any, recorder: Recorder) -> None:
        """Cut off one client, and wait until its watch knows."""

    @abstractmethod
    async def find_again(self, rig: Any, etcd: Any) -> None:
        """Let that client through again."""
