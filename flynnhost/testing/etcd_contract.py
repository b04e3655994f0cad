# ruff: noqa: S101 - these are tests
"""What every client of etcd keeps to: keys and leases."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import CancelledError, gatherResults
from zope.interface.verify import verifyObject

from flynnhost.errors import (
    Compacted,
    EtcdRefused,
    EtcdUnavailable,
    LeaseLost,
)
from flynnhost.interfaces import IEtcd
from flynnhost.keyvalues import (
    Compare,
    Delete,
    Found,
    Get,
    KeyRange,
    KeyValue,
    Put,
    Removed,
    Stored,
)
from flynnhost.testing.etcd_contract_rig import EtcdRig, contract, failure

# All that a key may hold: nothing in etcd is text.
AWKWARD = (
    *(b"\0", b"\xff", b"\xff\xff", b"a\xff", b"a\xff\xff", b"\n", b'"', b"a b/../c"),
    "ä".encode(),
    bytes(range(256)),
)


class EtcdKeysContract:
    """Keys and transactions. Subclasses have a fixture ``rig`` that gives an ``EtcdRig``."""

    def test_interface(self, rig: EtcdRig) -> None:
        """It has all that the interface names."""
        verifyObject(IEtcd, rig.client())

    @contract
    async def test_put_and_get(self, rig: EtcdRig) -> None:
        """A key has the value that it was given, and the revisions and the version that go with it."""
        etcd = rig.client()
        key = rig.key("k")
        assert await etcd.get(key) == Found((), 0, (await etcd.status()).revision)
        first = await etcd.put(key, b"1")
        second = await etcd.put(key, b"2")
        assert second == Stored(first.revision + 1)
        kv = KeyValue(key, b"2", first.revision, second.revision, 2)
        assert await etcd.get(key) == Found((kv,), 1, second.revision)

    @contract
    async def test_any_bytes(self, rig: EtcdRig) -> None:
        """Keys and values may be any bytes, and a value none at all."""
        etcd = rig.client()
        for name in AWKWARD:
            await etcd.put(rig.key(name), name)
        await etcd.put(rig.key("empty"), b"")
        found = await etcd.get(rig.keys)
        assert {kv.key: kv.value for kv in found.values} == {
            **{rig.key(name): name for name in AWKWARD},
            rig.key("empty"): b"",
        }
        assert [kv.key for kv in found.values] == sorted(kv.key for kv in found.values)

    @contract
    async def test_prefixes(self, rig: EtcdRig) -> None:
        """A prefix may end in any byte, and never has its neighbours in it."""
        etcd = rig.client()
        stems = (b"a", b"a\xff", b"a\xff\xff", b"b", b"\xff", b"\xff\xff")
        for stem in stems:
            for end in (b"", b"\0", b"x", b"\xff"):
                await etcd.put(rig.key(stem + end), b"")
        there = [kv.key for kv in (await etcd.get(rig.keys)).values]
        for stem in stems:
            found = await etcd.get(KeyRange.prefix(rig.key(stem)))
            assert [kv.key for kv in found.values] == [key for key in there if key.startswith(rig.key(stem))]
            assert all(kv.key in KeyRange.prefix(rig.key(stem)) for kv in found.values)

    @contract
    async def test_everything(self, rig: EtcdRig) -> None:
        """The empty prefix is all keys there are; a prefix of 0xff bytes only goes to the end."""
        etcd = rig.client()
        await etcd.put(rig.key("k"), b"")
        await etcd.put(b"\xff\xff" + rig.prefix, b"last")
        everything = [kv.key for kv in (await etcd.get(KeyRange.prefix(b""))).values]
        assert {rig.key("k"), b"\xff\xff" + rig.prefix} <= set(everything)
        last = [kv.key for kv in (await etcd.get(KeyRange.prefix(b"\xff\xff"))).values]
        assert last == [key for key in everything if key.startswith(b"\xff\xff")]
        await etcd.delete(b"\xff\xff" + rig.prefix)

    @contract
    async def test_options_of_get(self, rig: EtcdRig) -> None:
        """What is read can be limited, sorted, filtered, counted, old, and without values."""
        etcd = rig.client()
        revisions = [(await etcd.put(rig.key(name), value)).revision for name, value in
                     (("a", b"3"), ("b", b"1"), ("c", b"2"), ("a", b"3"))]  # fmt: skip

        async def names(**options: Any) -> str:
            found = await etcd.get(Get(rig.keys, **options))
            return "".join(kv.key[-1:].decode() for kv in found.values)

        assert await names() == "abc"
        assert await names(descending=True) == "cba"
        assert await names(sort_by="value") == "bca"
        assert await names(sort_by="mod") == "bca"
        assert await names(sort_by="create", descending=True) == "cba"
        assert await names(sort_by="version", descending=True, limit=1) == "a"
        assert await names(min_mod_revision=revisions[2]) == "ac"
        assert await names(max_mod_revision=revisions[2]) == "bc"
        assert await names(min_create_revision=revisions[1]) == "bc"
        assert await names(max_create_revision=revisions[1]) == "ab"
        assert await names(revision=revisions[1]) == "ab"
        assert await names(serializable=True) == "abc"
        limited = await etcd.get(Get(rig.keys, limit=2))
        assert (len(limited.values), limited.count) == (2, 3)
        counted = await etcd.get(Get(rig.keys, count_only=True))
        assert (counted.values, counted.count) == ((), 3)
        bare = await etcd.get(Get(rig.key("a"), keys_only=True))
        assert bare.values == (KeyValue(rig.key("a"), b"", revisions[0], revisions[3], 2),)

    @contract
    async def test_delete(self, rig: EtcdRig) -> None:
        """Removing says how much was removed and, if asked, what; what is not there can be removed too."""
        etcd = rig.client()
        await etcd.put(rig.key("a"), b"1")
        last = await etcd.put(rig.key("b"), b"2")
        assert await etcd.delete(rig.key("none")) == Removed(0, last.revision)
        removed = await etcd.delete(rig.keys, previous=True)
        assert (removed.count, removed.revision) == (2, last.revision + 1)
        assert [kv.value for kv in removed.previous] == [b"1", b"2"]
        again = await etcd.put(rig.key("a"), b"3")
        (kv,) = (await etcd.get(rig.key("a"))).values
        assert (kv.create_revision, kv.version) == (again.revision, 1)
        assert await etcd.delete(rig.key("a")) == Removed(1, again.revision + 1)

    @contract
    async def test_previous(self, rig: EtcdRig) -> None:
        """A put tells what was there before, if asked, with its lease."""
        etcd = rig.client()
        granted = await etcd.grant(60)
        assert (await etcd.put(rig.key("k"), b"1", granted.lease, previous=True)).previous is None
        previous = (await etcd.put(rig.key("k"), b"2", previous=True)).previous
        assert (previous.value, previous.version, previous.lease) == (b"1", 1, granted.lease)
        await etcd.revoke(granted.lease)
        assert (await etcd.get(rig.key("k"))).count == 1  # the second put took it off its lease

    @contract
    async def test_revisions_that_are_not_there(self, rig: EtcdRig) -> None:
        """What is forgotten and what is still to come are told apart."""
        etcd = rig.client()
        first = (await etcd.put(rig.key("k"), b"1")).revision
        last = (await etcd.put(rig.key("k"), b"2")).revision
        await rig.compact(last)
        await failure(etcd.get(Get(rig.key("k"), revision=first)), Compacted)
        await failure(etcd.get(Get(rig.key("k"), revision=last + 1000)), EtcdRefused)
        assert (await etcd.get(Get(rig.key("k"), revision=last))).values[0].value == b"2"

    @contract
    async def test_refused(self, rig: EtcdRig) -> None:
        """What makes no sense is refused, and changes nothing."""
        etcd = rig.client()
        await failure(etcd.put(b"", b"no key"), EtcdRefused)
        twice = [Put(rig.key("k"), b"1"), Put(rig.key("k"), b"2")]
        await failure(etcd.txn([], twice), EtcdRefused)
        await failure(etcd.txn([], [Delete(rig.keys), Put(rig.key("k"), b"2")]), EtcdRefused)
        assert (await etcd.get(rig.keys)).count == 0

    @contract
    async def test_compares(self, rig: EtcdRig) -> None:
        """Conditions hold or not, for keys that are there and for those that are not."""
        etcd = rig.client()
        key, none = rig.key("k"), rig.key("none")
        created = (await etcd.put(key, b"m")).revision
        changed = (await etcd.put(key, b"m")).revision
        true = [
            Compare(key, "version", "==", 2),
            Compare(key, "create", "==", created),
            Compare(key, "mod", "==", changed),
            Compare(key, "value", "==", b"m"),
            Compare(key, "value", ">", b"l"),
            Compare(key, "value", "<", b"m\0"),
            Compare(key, "value", "!=", b""),
            Compare(key, "create", "<", changed),
            Compare(key, "mod", ">", created),
            Compare(none, "version", "==", 0),
            Compare(none, "create", "==", 0),
            Compare(none, "mod", "<", 1),
        ]
        false = [
            Compare(key, "version", "!=", 2),
            Compare(key, "create", ">", created),
            Compare(key, "value", "==", b""),
            Compare(none, "create", "!=", 0),
            Compare(none, "value", "==", b""),
            Compare(none, "value", "!=", b"m"),
        ]
        for compare in true:
            assert (await etcd.txn([compare])).succeeded, compare
        for compare in false:
            assert not (await etcd.txn([compare])).succeeded, compare
        assert (await etcd.txn(true)).succeeded
        assert not (await etcd.txn([*true, false[0]])).succeeded

    @contract
    async def test_txn(self, rig: EtcdRig) -> None:
        """A transaction does one thing or the other, all at one revision, and tells what came of each."""
        etcd = rig.client()
        a, b = rig.key("a"), rig.key("b")
        first = (await etcd.put(a, b"1")).revision
        done = await etcd.txn(
            [Compare(a, "mod", "==", first)],
            [Put(b, b"2", previous=True), Get(a), Delete(a, previous=True), Get(Get(a).keys, keys_only=True)],
            [Put(rig.key("never"), b"")],
        )
        kv = KeyValue(a, b"1", first, first, 1)
        assert done.succeeded
        assert done.revision == first + 1
        assert done.results == (
            Stored(first + 1),
            Found((kv,), 1, first + 1),
            Removed(1, first + 1, (kv,)),
            Found((), 0, first + 1),
        )
        lost = await etcd.txn([Compare(a, "mod", "==", first)], [Put(a, b"again")], [Get(b), Get(a)])
        assert not lost.succeeded
        assert [result.count for result in lost.results] == [1, 0]
        assert lost.revision == first + 1
        empty = await etcd.txn([], [], [])
        assert (empty.succeeded, empty.results) == (True, ())

    @contract
    async def test_one_of_many_wins(self, rig: EtcdRig) -> None:
        """Of many who make the same key at the same time one succeeds, and the others learn who."""
        clients = [rig.client() for _ in range(5)]
        key = rig.key("leader")
        tries = [
            etcd.txn([Compare(key, "create", "==", 0)], [Put(key, b"%d" % number)], [Get(key)])
            for number, etcd in enumerate(clients)
        ]
        results = await gatherResults(tries)
        (winner,) = [number for number, result in enumerate(results) if result.succeeded]
        assert {r.results[0].values[0].value for r in results if not r.succeeded} == {b"%d" % winner}

    @contract
    async def test_many_at_once(self, rig: EtcdRig) -> None:
        """Many calls at once are all answered, each with its own."""
        etcd = rig.client()
        await gatherResults([etcd.put(rig.key(f"{n:03}"), b"%d" % n) for n in range(200)])
        found = await gatherResults([etcd.get(rig.key(f"{n:03}")) for n in range(200)])
        assert [each.values[0].value for each in found] == [b"%d" % n for n in range(200)]

    @contract
    async def test_status_and_members(self, rig: EtcdRig) -> None:
        """A member tells what it is, and who the members are."""
        etcd = rig.client()
        status = await etcd.status()
        members = await etcd.members()
        assert status.member in {member.id for member in members}
        assert status.leader in {member.id for member in members}
        assert status.version.startswith("3.")
        assert status.revision >= 1
        for member in members:
            assert member.name
            assert member.client_urls
            assert not member.learner

    @contract
    async def test_cancelled(self, rig: EtcdRig) -> None:
        """A call that is cancelled fails so at once, and later ones are not affected."""
        etcd = rig.client()
        call = etcd.put(rig.key("k"), b"1")
        errors: list[Any] = []
        call.addErrback(errors.append)
        call.cancel()
        assert errors[0].check(CancelledError)
        await etcd.put(rig.key("k"), b"2")
        assert (await etcd.get(rig.key("k"))).values[0].value == b"2"

    @contract
    async def test_closed(self, rig: EtcdRig) -> None:
        """Closing ends what is under way and refuses what comes later; it can be done again."""
        etcd = rig.client()
        recorder = await rig.watching(etcd)
        pending = etcd.get(rig.key("k"))
        closing = etcd.close()
        await failure(pending, EtcdUnavailable)
        await closing
        await failure(etcd.get(rig.key("k")), EtcdUnavailable)
        await failure(etcd.keep_alive_once(1, 1.0), EtcdUnavailable)
        await rig.client().put(rig.key("k"), b"1")
        await rig.pause(0.2)
        assert recorder.told == ["connected"]
        assert recorder.events == []
        await etcd.close()


class EtcdLeaseContract:
    """Leases. Subclasses have a fixture ``rig`` that gives an ``EtcdRig``."""

    @contract
    async def test_granted(self, rig: EtcdRig) -> None:
        """A lease has an ID of its own and lasts as long as was asked, or longer when that is too short."""
        etcd = rig.client()
        long, other, short = await etcd.grant(60), await etcd.grant(60), await etcd.grant(1)
        assert long.ttl == 60
        assert short.ttl >= 2
        assert len({long.lease, other.lease, short.lease, 0}) == 4
        state = await etcd.time_to_live(long.lease)
        assert (state.ttl, state.keys) == (60, ())
        assert 50 <= state.remaining <= 60

    @contract
    async def test_keys(self, rig: EtcdRig) -> None:
        """A lease takes its keys with it, and others not."""
        etcd = rig.client()
        lease = (await etcd.grant(60)).lease
        await etcd.put(rig.key("mine"), b"", lease)
        await etcd.txn([], [Put(rig.key("too"), b"", lease), Put(rig.key("other"), b"")])
        assert (await etcd.get(rig.key("too"))).values[0].lease == lease
        state = await etcd.time_to_live(lease, keys=True)
        assert set(state.keys) == {rig.key("mine"), rig.key("too")}
        await etcd.revoke(lease)
        assert [kv.key for kv in (await etcd.get(rig.keys)).values] == [rig.key("other")]

    @contract
    async def test_ends(self, rig: EtcdRig) -> None:
        """A lease that nobody keeps alive ends, with its keys, and one that somebody does, does not."""
        etcd = rig.client()
        left, kept = (await etcd.grant(2)).lease, (await etcd.grant(2)).lease
        await etcd.put(rig.key("left"), b"", left)
        await etcd.put(rig.key("kept"), b"", kept)
        recorder = await rig.watching(etcd)
        for _ in range(12):
            assert await etcd.keep_alive_once(kept, 5.0) == 2
            await rig.pause(0.5)
            if recorder.events:
                break
        assert [(event.kv.key, event.removed) for event in recorder.events] == [(rig.key("left"), True)]
        assert recorder.events[0].previous is not None
        assert recorder.events[0].previous.lease == left
        await failure(etcd.keep_alive_once(left, 5.0), LeaseLost)
        assert [kv.key for kv in (await etcd.get(rig.keys)).values] == [rig.key("kept")]
        await etcd.revoke(kept)

    @contract
    async def test_lost(self, rig: EtcdRig) -> None:
        """A lease that is not there is said to be lost, whatever is done with it, and by name."""
        etcd = rig.client()
        lease = (await etcd.grant(60)).lease
        await etcd.revoke(lease)
        calls = [
            etcd.keep_alive_once(lease, 5.0),
            etcd.time_to_live(lease),
            etcd.put(rig.key("k"), b"", lease),
            etcd.put(rig.key("k"), b"", lease, previous=True),
            etcd.txn([], [Put(rig.key("j"), b""), Put(rig.key("k"), b"", lease)]),
        ]
        for call in calls:
            assert (await failure(call, LeaseLost)).lease == lease
        await etcd.revoke(lease)
        assert (await etcd.get(rig.keys)).count == 0
